"""What the training frameworks say before any network: carried by every checkpoint of the coarse diffusion."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from matgen.data.mof_records import CoarseRecords
from matgen.errors import CheckpointError
from matgen.geometry.lattice import k_from_lattice, lattice_from_k
from matgen.shapes import Float, Int

_MIN_STD = 0.05
_CONFORMERS = 3  # of one identity, in the table of blocks


def lattice_target(lattice: Float[Tensor, "B 3 3"], num_blocks: Int[Tensor, "B"]) -> Float[Tensor, "B 6"]:
    """Return what a network predicts of a cell: its polar components k, the volume counted per block.

    Args:
        lattice: rows a, b, c; Å.
        num_blocks: K of each framework.

    Returns:
        The six components; the last is ln(volume / K / Å^3) / sqrt(3).
    """
    k = k_from_lattice(lattice.double())
    k[..., 5] -= num_blocks.double().log() / math.sqrt(3)
    return k.to(lattice.dtype)


def lattice_from_target(target: Float[Tensor, "B 6"], num_blocks: Int[Tensor, "B"]) -> Float[Tensor, "B 3 3"]:
    """Return the cell that `lattice_target` was made of, up to a rotation."""
    k = target.double().clone()
    k[..., 5] += num_blocks.double().log() / math.sqrt(3)
    return lattice_from_k(k).to(target.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseStatistics:
    """Means, spreads and frequencies over the training set; D embedding dimensions, P properties.

    Attributes:
        embedding_mean, embedding_std: float32[D] over all blocks.
        lattice_mean, lattice_std: float32[6] of `lattice_target`.
        length_scale: float32[], Å, mean of (volume / K)^(1/3).
        count_prob: float32[Kmax + 1, Kmax + 1], share of frameworks with K blocks (rows) of which so many are metal
            nodes (columns).
        connection_prob: float32[2, Cmax + 1], share of each number of connections among other blocks (0) and metal
            nodes (1).
        property_mean, property_std: float32[P] over the known values; 0 and 1 where none is known.
        block_embedding: float32[M, D] of the blocks that there are; of one identity the first few conformers.
        block_is_metal, block_connections: float32[M].
        block_arms: float32[M, 3], Å, least, mean and largest distance of its connection points from their centroid.
        block_share: float32[M], share of each among all blocks of all frameworks.
    """

    file_name: ClassVar[str] = "statistics.safetensors"

    embedding_mean: Tensor
    embedding_std: Tensor
    lattice_mean: Tensor
    lattice_std: Tensor
    length_scale: Tensor
    count_prob: Tensor
    connection_prob: Tensor
    property_mean: Tensor
    property_std: Tensor
    block_embedding: Tensor
    block_is_metal: Tensor
    block_connections: Tensor
    block_arms: Tensor
    block_share: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def to(self, device: torch.device | str) -> "CoarseStatistics":
        """Return the same statistics on another device."""
        return CoarseStatistics(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    @property
    def embedding_dim(self) -> int:
        """Length of a block's embedding."""
        return len(self.embedding_mean)

    @property
    def max_blocks(self) -> int:
        """Largest number of blocks that the training set holds."""
        return self.count_prob.shape[0] - 1

    @property
    def max_connections(self) -> int:
        """Largest number of connections of a block of the training set."""
        return self.connection_prob.shape[1] - 1

    @property
    def num_properties(self) -> int:
        """Number of properties."""
        return len(self.property_mean)

    def save(self, path: Path | str) -> None:
        """Write one safetensors file."""
        Path(path).write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in self.tensors().items()}))

    @classmethod
    def load(cls, path: Path | str) -> "CoarseStatistics":
        """Read a file written by `save`.

        Raises:
            CheckpointError: if the file is missing, truncated or lacks a tensor.
        """
        try:
            tensors = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: not readable as statistics ({error})") from error
        dim = len(tensors.get("embedding_mean", ()))
        if not any(name.startswith("block_") for name in tensors):  # of an earlier version: no table of blocks
            tensors |= {name: torch.zeros(0, *tail) for name, tail in _table_shapes(dim).items()}
        names = {field.name for field in dataclasses.fields(cls)}
        if set(tensors) != names:
            missing, unknown = sorted(names - set(tensors)), sorted(set(tensors) - names)
            raise CheckpointError(f"{path}: tensors missing {missing}, unknown {unknown}")
        return cls(**{name: tensor.float() for name, tensor in tensors.items()})


def build_statistics(
    records: CoarseRecords,
    embeddings: np.ndarray,
    arms: np.ndarray,
    conformer_offsets: np.ndarray | None = None,
    max_blocks: int | None = None,
) -> CoarseStatistics:
    """Count the training frameworks.

    Args:
        records: the training set, at least one framework.
        embeddings: float32[N, D] of the building blocks that it refers to.
        arms: float32[N, 3], of the same, see `BlockRecords.arms`.
        conformer_offsets: int64[I + 1], where the blocks of each identity begin; each block is one of its own where
            not given.
        max_blocks: largest K that samples may have; that of the records where not given.

    Raises:
        ValueError: there is no framework.
    """
    if len(records) == 0:
        raise ValueError("statistics need at least one training framework")
    counts = records.num_blocks
    metals = np.add.reduceat(records.is_metal.astype(np.int64), records.offsets[:-1])
    size = (int(counts.max()) if max_blocks is None else max_blocks) + 1
    count_prob = np.zeros((size, size))
    np.add.at(count_prob, (counts, metals), 1.0)
    connection_prob = np.zeros((2, int(records.num_connections.max()) + 1))
    np.add.at(connection_prob, (records.is_metal.astype(np.int64), records.num_connections), 1.0)
    used = embeddings[records.block_index].astype(np.float64)
    target = lattice_target(torch.from_numpy(np.array(records.lattice)), torch.from_numpy(counts)).numpy()
    volumes = np.abs(np.linalg.det(records.lattice)) / counts
    known = np.where(np.isfinite(records.properties), records.properties, np.nan).astype(np.float64)
    some = np.isfinite(known).any(axis=0)
    mean, std = np.zeros(known.shape[1]), np.ones(known.shape[1])
    if some.any():
        mean[some], std[some] = np.nanmean(known[:, some], axis=0), np.nanstd(known[:, some], axis=0)
    arrays = {
        "embedding_mean": used.mean(0),
        "embedding_std": np.maximum(used.std(0), _MIN_STD),
        "lattice_mean": target.mean(0),
        "lattice_std": np.maximum(target.std(0), _MIN_STD),
        "length_scale": np.cbrt(volumes).mean(),
        "count_prob": count_prob / count_prob.sum(),
        "connection_prob": connection_prob / np.maximum(connection_prob.sum(1, keepdims=True), 1.0),
        "property_mean": mean,
        "property_std": np.where(std > 0, std, 1.0),
        **_blocks(records, embeddings, arms, conformer_offsets),
    }
    return CoarseStatistics(**{name: torch.tensor(array, dtype=torch.float32) for name, array in arrays.items()})


def _table_shapes(dim: int) -> dict[str, tuple[int, ...]]:
    return {
        "block_embedding": (dim,),
        "block_is_metal": (),
        "block_connections": (),
        "block_arms": (3,),
        "block_share": (),
    }


def _blocks(
    records: CoarseRecords, embeddings: np.ndarray, arms: np.ndarray, offsets: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The blocks that are used, few of each identity; what is used of others counts for the nearest of its identity."""
    used, first, count = np.unique(records.block_index, return_index=True, return_counts=True)
    identity = used if offsets is None else np.searchsorted(offsets, used, side="right") - 1
    begins = np.flatnonzero(np.diff(identity, prepend=-1))
    rank = np.arange(len(used)) - np.repeat(begins, np.diff([*begins, len(used)]))
    kept = np.flatnonzero(rank < _CONFORMERS)
    of, share = identity[kept], count[kept].astype(np.float64)
    for other in np.flatnonzero(rank >= _CONFORMERS):
        own = np.arange(*np.searchsorted(of, [identity[other], identity[other] + 1]))
        away = np.square(embeddings[used[kept[own]]] - embeddings[used[other]]).sum(1)
        share[own[away.argmin()]] += count[other]
    return {
        "block_embedding": embeddings[used[kept]],
        "block_is_metal": records.is_metal[first[kept]],
        "block_connections": records.num_connections[first[kept]],
        "block_arms": arms[used[kept]],
        "block_share": share / share.sum(),
    }
