"""What the training frameworks say before any network: carried by every checkpoint of the coarse diffusion."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from matgen.errors import CheckpointError
from matgen.geometry.lattice import k_from_lattice, lattice_from_k
from matgen.shapes import Float, Int


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
        names = {field.name for field in dataclasses.fields(cls)}
        if set(tensors) != names:
            missing, unknown = sorted(names - set(tensors)), sorted(set(tensors) - names)
            raise CheckpointError(f"{path}: tensors missing {missing}, unknown {unknown}")
        return cls(**tensors)
