"""Many building blocks in flat arrays, grouped by identity: one safetensors file that is mapped, not read."""

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from matgen.errors import MatgenError
from matgen.mof.building_block import ROLES, BuildingBlock

__all__ = ["ARRAYS", "FORMAT", "BlockLibrary", "BlockLibraryError"]

FORMAT = "matgen-blocks-1"
ARRAYS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    # name: safetensors type, numpy type, shape behind the first axis; wide types first keeps every array aligned
    "atom_offsets": ("I64", "<i8", ()),
    "bond_offsets": ("I64", "<i8", ()),
    "connection_offsets": ("I64", "<i8", ()),
    "conformer_offsets": ("I64", "<i8", ()),
    "cart_coords": ("F32", "<f4", (3,)),
    "connection_points": ("F32", "<f4", (3,)),
    "source_index": ("I32", "<i4", ()),
    "bonds": ("U16", "<u2", (2,)),
    "connection_atoms": ("U16", "<u2", ()),
    "atomic_numbers": ("U8", "<u1", ()),
    "role": ("U8", "<u1", ()),
    "identity_names": ("U8", "<u1", (16,)),
    "ecfp4": ("U8", "<u1", (512,)),
    "sources": ("U8", "<u1", ()),
}
_EMBEDDING = "embedding"
_MAX_HEADER = 10_000_000


class BlockLibraryError(MatgenError):
    """A library file is missing, truncated, or breaks the invariants of its arrays."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockLibrary:
    """N blocks of I identities from S frameworks; the conformers of one identity follow one another.

    Attributes:
        atom_offsets: int64[N + 1]; atoms of block i are rows atom_offsets[i]:atom_offsets[i + 1].
        bond_offsets, connection_offsets: int64[N + 1], the same for bonds and connection points.
        conformer_offsets: int64[I + 1]; blocks of identity k are conformer_offsets[k]:conformer_offsets[k + 1].
        cart_coords: float32[A, 3] in Å, the origin of each block is the centroid of its connection points.
        connection_points: float32[C, 3] in Å.
        source_index: int32[N], framework that the block was cut from.
        bonds: uint16[B, 2], atoms numbered within the block.
        connection_atoms: uint16[C], numbered within the block.
        atomic_numbers: uint8[A].
        role: uint8[N], index into `ROLES`.
        identity_names: uint8[I, 16], ascending; the bytes whose hexadecimal digits are `BuildingBlock.identity`.
        ecfp4: uint8[I, 512], packed bits.
        sources: uint8, names of the S frameworks, joined by line breaks.
        embedding: float32[N, D] of a block encoder, or None.
    """

    atom_offsets: np.ndarray
    bond_offsets: np.ndarray
    connection_offsets: np.ndarray
    conformer_offsets: np.ndarray
    cart_coords: np.ndarray
    connection_points: np.ndarray
    source_index: np.ndarray
    bonds: np.ndarray
    connection_atoms: np.ndarray
    atomic_numbers: np.ndarray
    role: np.ndarray
    identity_names: np.ndarray
    ecfp4: np.ndarray
    sources: np.ndarray
    embedding: np.ndarray | None = None

    def __len__(self) -> int:
        return self.num_blocks

    @property
    def num_blocks(self) -> int:
        return len(self.role)

    @property
    def num_identities(self) -> int:
        return len(self.identity_names)

    @cached_property
    def identity_index(self) -> np.ndarray:
        """Identity of each block, int32[N]."""
        counts = np.diff(self.conformer_offsets)
        return np.repeat(np.arange(self.num_identities, dtype=np.int32), counts)

    @cached_property
    def num_connections(self) -> np.ndarray:
        """Of each block, int64[N]."""
        return np.diff(self.connection_offsets)

    @cached_property
    def num_atoms(self) -> np.ndarray:
        """Of each block, int64[N]."""
        return np.diff(self.atom_offsets)

    @cached_property
    def is_metal(self) -> np.ndarray:
        """Whether each block is a metal node, bool[N]."""
        return np.asarray(self.role == 0)

    @cached_property
    def source_names(self) -> tuple[str, ...]:
        """Names of the frameworks."""
        text = self.sources.tobytes().decode()
        return tuple(text.split("\n")) if text else ()

    def source(self, index: int) -> str:
        """Name of the framework that block `index` was cut from."""
        return self.source_names[int(self.source_index[index])]

    def identity(self, index: int) -> str:
        """Identity of block `index`."""
        return bytes(self.identity_names[self.identity_index[index]]).hex()

    def find(self, identity: str) -> np.ndarray:
        """Blocks (conformers) of an identity, int64 [n], none where it is unknown."""
        names = np.ascontiguousarray(self.identity_names).view("S16").ravel()
        # numpy strips trailing zeros of both sides, which keeps the order
        key = np.bytes_(bytes.fromhex(identity))
        place = int(np.searchsorted(names, key))
        if place == len(names) or names[place] != key:
            return np.empty(0, np.int64)
        return np.arange(self.conformer_offsets[place], self.conformer_offsets[place + 1])

    def block(self, index: int) -> BuildingBlock:
        """One block, its arrays copied out of the file.

        Args:
            index: 0 to num_blocks - 1.
        """
        atoms = slice(self.atom_offsets[index], self.atom_offsets[index + 1])
        bonds = slice(self.bond_offsets[index], self.bond_offsets[index + 1])
        points = slice(self.connection_offsets[index], self.connection_offsets[index + 1])
        return BuildingBlock(
            atomic_numbers=self.atomic_numbers[atoms].astype(np.int64),
            cart_coords=self.cart_coords[atoms].astype(np.float64),
            bonds=self.bonds[bonds].astype(np.int64),
            connection_points=self.connection_points[points].astype(np.float64),
            connection_atoms=self.connection_atoms[points].astype(np.int64),
            role=ROLES[int(self.role[index])],
        )

    @classmethod
    def from_blocks(cls, blocks: Sequence[BuildingBlock], sources: Sequence[str]) -> "BlockLibrary":
        """A library of given blocks.

        Args:
            blocks: in any order.
            sources: name of the framework of each.

        Returns:
            the blocks sorted by identity, in the given order within one.
        """
        names = [block.identity for block in blocks]
        order = sorted(range(len(blocks)), key=lambda i: (names[i], i))
        kept = [blocks[i] for i in order]
        unique, first, counts = np.unique([names[i] for i in order], return_index=True, return_counts=True)
        source_names = list(dict.fromkeys(sources))
        number = {name: i for i, name in enumerate(source_names)}
        arrays: dict[str, Any] = {
            "atom_offsets": np.cumsum([0, *(block.num_atoms for block in kept)]),
            "bond_offsets": np.cumsum([0, *(len(block.bonds) for block in kept)]),
            "connection_offsets": np.cumsum([0, *(block.num_connections for block in kept)]),
            "conformer_offsets": np.concatenate([[0], np.cumsum(counts)]),
            "cart_coords": _stack([block.cart_coords for block in kept]),
            "connection_points": _stack([block.connection_points for block in kept]),
            "source_index": [number[sources[i]] for i in order],
            "bonds": _stack([block.bonds for block in kept]),
            "connection_atoms": _stack([block.connection_atoms for block in kept]),
            "atomic_numbers": _stack([block.atomic_numbers for block in kept]),
            "role": [ROLES.index(block.role) for block in kept],
            "identity_names": [list(bytes.fromhex(name)) for name in unique],
            "ecfp4": _stack([kept[i].ecfp4[None] for i in first]),
            "sources": np.frombuffer("\n".join(source_names).encode(), dtype=np.uint8),
        }
        shaped = {
            name: np.asarray(arrays[name], dtype=dtype).reshape(-1, *tail) for name, (_, dtype, tail) in ARRAYS.items()
        }
        return cls(**shaped)

    def select(self, indices: np.ndarray) -> "BlockLibrary":
        """The blocks at `indices` (ascending), their identities and all source names."""
        indices = np.asarray(indices, dtype=np.int64)
        identities, counts = np.unique(self.identity_index[indices], return_counts=True)
        atoms, points = _rows(self.atom_offsets, indices), _rows(self.connection_offsets, indices)
        return BlockLibrary(
            atom_offsets=_offsets(self.atom_offsets, indices),
            bond_offsets=_offsets(self.bond_offsets, indices),
            connection_offsets=_offsets(self.connection_offsets, indices),
            conformer_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            cart_coords=self.cart_coords[atoms],
            connection_points=self.connection_points[points],
            source_index=self.source_index[indices],
            bonds=self.bonds[_rows(self.bond_offsets, indices)],
            connection_atoms=self.connection_atoms[points],
            atomic_numbers=self.atomic_numbers[atoms],
            role=self.role[indices],
            identity_names=self.identity_names[identities],
            ecfp4=self.ecfp4[identities],
            sources=self.sources,
            embedding=None if self.embedding is None else self.embedding[indices],
        )

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, aside and then renamed; its folder must exist."""
        from safetensors.numpy import save as serialise

        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        if self.embedding is not None:
            arrays[_EMBEDDING] = np.ascontiguousarray(self.embedding, dtype="<f4")
        target = Path(path)
        aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            aside.write_bytes(serialise(arrays, metadata={"format": FORMAT}))
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str) -> "BlockLibrary":
        """Map a file written by `save`; pages are read when they are used.

        Raises:
            BlockLibraryError: the file is missing, truncated or no library; the message begins with its path.
        """
        try:
            return cls(**_mapped(Path(path)))
        except OSError as error:
            raise BlockLibraryError(f"{path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise BlockLibraryError(f"{path}: not a readable block library ({error})") from error


def _stack(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0)


def _offsets(offsets: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(offsets[indices + 1] - offsets[indices])]).astype(np.int64)


def _rows(offsets: np.ndarray, indices: np.ndarray) -> np.ndarray:
    counts = offsets[indices + 1] - offsets[indices]
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(offsets[indices] - (ends - counts), counts)


def _mapped(path: Path) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    with path.open("rb") as file:
        (header_size,) = struct.unpack("<Q", file.read(8))
        if not 2 <= header_size <= min(size - 8, _MAX_HEADER):
            raise ValueError(f"header of {header_size} bytes in a file of {size}")
        header = json.loads(file.read(header_size))
    if header.get("__metadata__", {}).get("format") != FORMAT:
        raise ValueError(f"its format is {header.get('__metadata__')}, expected {FORMAT}")
    start = 8 + header_size
    mapped = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    expected = {name: entry[:2] for name, entry in ARRAYS.items()}
    if _EMBEDDING in header:
        expected[_EMBEDDING] = ("F32", "<f4")
    arrays = {}
    for name, (stored, dtype) in expected.items():
        begin, end = header[name]["data_offsets"]
        if header[name]["dtype"] != stored or not 0 <= begin <= end <= size - start:
            raise ValueError(f"{name} has type {header[name]['dtype']} and bytes {begin}:{end} of {size - start}")
        arrays[name] = mapped[start + begin : start + end].view(dtype).reshape(header[name]["shape"])
    return arrays
