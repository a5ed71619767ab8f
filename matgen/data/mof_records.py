"""Building blocks and coarse frameworks as flat ragged arrays, each kind one safetensors file that is mapped."""

import dataclasses
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from matgen.data.arrays import STORED, ArrayWriter, Layout, map_arrays, pack_text, unpack_text
from matgen.data.records import RecordsError

Shapes = dict[str, tuple[str, tuple[int, ...]]]


def ragged_rows(offsets: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return the rows `offsets[i]:offsets[i + 1]` of each index i, one after the other."""
    starts, counts = offsets[indices], offsets[indices + 1] - offsets[indices]
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)


_MappedT = TypeVar("_MappedT", bound="_Mapped")  # not Self: beartype in tests cannot check it on a plain method


class _Mapped:
    """Loading and saving, shared by both kinds."""

    shapes: ClassVar[Shapes]
    texts: ClassVar[tuple[str, ...]]
    file_format: ClassVar[str]

    @classmethod
    def writer(cls, path: Path, more: Shapes | None = None) -> ArrayWriter:
        """Return what writes such a file, with more arrays where given, in pieces."""
        return ArrayWriter(path, cls.shapes | dict.fromkeys(cls.texts, ("U8", ())) | (more or {}), cls.file_format)

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, aside and then renamed."""
        writer = self.writer(Path(path))
        for name in writer.shapes:
            if name not in self.texts:
                writer.append(name, getattr(self, name))
        for name in self.texts:
            writer.append(name, pack_text(getattr(self, name)))
        writer.finish()

    @classmethod
    def _arrays(cls, path: Path | str, optional: Layout | None = None) -> dict[str, np.ndarray]:
        layout = {name: (stored, STORED[stored]) for name, (stored, _) in cls.shapes.items()}
        try:
            arrays = map_arrays(Path(path), layout | dict.fromkeys(cls.texts, ("U8", "u1")), optional)
        except OSError as error:
            raise RecordsError(f"{path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise RecordsError(f"{path}: not a readable records file ({error})") from error
        return arrays

    @classmethod
    def _made(cls: type[_MappedT], path: Path | str, arrays: dict[str, Any]) -> _MappedT:
        try:
            return cls(**arrays)
        except (ValueError, RecordsError) as error:
            raise RecordsError(f"{path}: {error}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockRecords(_Mapped):
    """The arrays of a block library: N blocks of I identities, conformers of one identity one after the other.

    Attributes:
        atom_offsets, bond_offsets, connection_offsets: int64[N + 1], ascending from 0 to A, b and C.
        conformer_offsets: int64[I + 1]; blocks of identity k are conformer_offsets[k]:conformer_offsets[k + 1].
        cart_coords: float32[A, 3], Å, origin at the centroid of the block's connection points.
        connection_points: float32[C, 3], Å.
        source_index: int32[N], framework that the block was cut from.
        bonds: uint16[b, 2], atoms of the block.
        connection_atoms: uint16[C], atom of the block at each connection point.
        atomic_numbers: uint8[A].
        role: uint8[N], 0 metal node, 1 linker, 2 node bridge.
        identity_names: uint8[I, 16], ascending.
        ecfp4: uint8[I, 512], packed bits.
        sources: names of the frameworks.
        embedding: float32[N, D] of a block encoder; D is 0 before there is one.
    """

    file_format: ClassVar[str] = "matgen-blocks-1"
    texts: ClassVar[tuple[str, ...]] = ("sources",)
    shapes: ClassVar[Shapes] = {
        "atom_offsets": ("I64", ()),
        "bond_offsets": ("I64", ()),
        "connection_offsets": ("I64", ()),
        "conformer_offsets": ("I64", ()),
        "cart_coords": ("F32", (3,)),
        "connection_points": ("F32", (3,)),
        "source_index": ("I32", ()),
        "bonds": ("U16", (2,)),
        "connection_atoms": ("U16", ()),
        "atomic_numbers": ("U8", ()),
        "role": ("U8", ()),
        "identity_names": ("U8", (16,)),
        "ecfp4": ("U8", (512,)),
    }

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
    sources: tuple[str, ...] = ()
    embedding: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, ragged in (("atom", "cart_coords"), ("bond", "bonds"), ("connection", "connection_points")):
            offsets, rows = getattr(self, f"{name}_offsets"), len(getattr(self, ragged))
            if len(offsets) != len(self) + 1 or offsets[0] != 0 or offsets[-1] != rows:
                raise RecordsError(f"{name}_offsets do not fit {len(self)} blocks and {rows} rows")

    def __len__(self) -> int:
        return len(self.role)

    @classmethod
    def load(cls, path: Path | str) -> "BlockRecords":
        """Map a library file; pages are read when they are used.

        Raises:
            RecordsError: the file is missing, truncated or of another kind; the message begins with its path.
        """
        arrays = cls._arrays(path, optional={"embedding": ("F32", "<f4")})
        text = arrays["sources"].tobytes().decode()
        return cls._made(path, {**arrays, "sources": tuple(text.split("\n")) if text else ()})

    @classmethod
    def empty(cls) -> "BlockRecords":
        """Return records of no block."""
        arrays: dict[str, Any] = {
            name: np.zeros((0, *tail), STORED[stored]) for name, (stored, tail) in cls.shapes.items()
        }
        arrays |= {name: np.zeros(1, np.int64) for name in arrays if name.endswith("_offsets")}
        return cls(**arrays)

    @cached_property
    def identity_index(self) -> np.ndarray:
        """Identity of each block, int64[N]."""
        return np.repeat(np.arange(len(self.identity_names)), np.diff(self.conformer_offsets))

    @property
    def num_atoms(self) -> np.ndarray:
        """Atoms of each block, int64[N]."""
        return np.diff(self.atom_offsets)

    @property
    def num_connections(self) -> np.ndarray:
        """Connection points of each block, int64[N]."""
        return np.diff(self.connection_offsets)

    @property
    def is_metal(self) -> np.ndarray:
        """Metal nodes, bool[N]."""
        return np.asarray(self.role == 0)

    def arms(self) -> np.ndarray:
        """Least, mean and largest distance (Å) of each block's connection points from their centroid, float32[N, 3]."""
        lengths, counts = np.linalg.norm(self.connection_points, axis=1), self.num_connections
        arms, some = np.zeros((len(self), 3), dtype=np.float32), counts > 0
        begins = np.asarray(self.connection_offsets)[:-1][some]
        if len(begins):
            arms[some, 0] = np.minimum.reduceat(lengths, begins)
            arms[some, 1] = np.add.reduceat(lengths, begins) / counts[some]
            arms[some, 2] = np.maximum.reduceat(lengths, begins)
        return arms


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseRecords(_Mapped):
    """N coarse frameworks with n blocks and e coarse edges in all, P properties each.

    Attributes:
        lattice: float64[N, 3, 3], rows a, b, c of the reduced primitive cell; Å.
        offsets, edge_offsets: int64[N + 1], ascending from 0 to n and e.
        frac_coords: float32[n, 3] in [0, 1), centroids of the blocks' connection points.
        block_index: int32[n] into the BlockRecords of the same stage.
        is_metal: bool[n], metal nodes.
        num_connections: int16[n].
        edge_index: int16[e, 2], blocks of the framework, the metal node first, each connected pair once.
        edge_image: int8[e, 3], cell of the second block relative to the first.
        edge_multiplicity: int8[e], connections between the two.
        properties: float32[N, P], NaN where unknown.
        ids: name of each framework.
        property_names: P names.
    """

    file_format: ClassVar[str] = "matgen-coarse-1"
    texts: ClassVar[tuple[str, ...]] = ("ids", "property_names")
    shapes: ClassVar[Shapes] = {
        "lattice": ("F64", (3, 3)),
        "offsets": ("I64", ()),
        "frac_coords": ("F32", (3,)),
        "block_index": ("I32", ()),
        "is_metal": ("BOOL", ()),
        "num_connections": ("I16", ()),
        "edge_offsets": ("I64", ()),
        "edge_index": ("I16", (2,)),
        "edge_image": ("I8", (3,)),
        "edge_multiplicity": ("I8", ()),
        "properties": ("F32", ()),
    }

    lattice: np.ndarray
    offsets: np.ndarray
    frac_coords: np.ndarray
    block_index: np.ndarray
    is_metal: np.ndarray
    num_connections: np.ndarray
    edge_offsets: np.ndarray
    edge_index: np.ndarray
    edge_image: np.ndarray
    edge_multiplicity: np.ndarray
    properties: np.ndarray
    ids: tuple[str, ...]
    property_names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "properties", self.properties.reshape(len(self), len(self.property_names)))
        for offsets, rows in ((self.offsets, len(self.frac_coords)), (self.edge_offsets, len(self.edge_index))):
            if len(offsets) != len(self) + 1 or offsets[0] != 0 or offsets[-1] != rows:
                raise RecordsError(f"offsets do not fit {len(self)} frameworks and {rows} rows")

    def __len__(self) -> int:
        return len(self.lattice)

    @classmethod
    def load(cls, path: Path | str) -> "CoarseRecords":
        """Map a file.

        Raises:
            RecordsError: the file is missing, truncated or of another kind; the message begins with its path.
        """
        arrays: dict[str, Any] = cls._arrays(path)
        count = len(arrays["lattice"])
        try:
            arrays["ids"] = unpack_text(arrays["ids"], count)
            names = arrays["property_names"].tobytes().decode()
        except ValueError as error:
            raise RecordsError(f"{path}: {error}") from error
        arrays["property_names"] = tuple(names.split("\n")) if names else ()
        return cls._made(path, arrays)

    @classmethod
    def empty(cls, property_names: tuple[str, ...] = ()) -> "CoarseRecords":
        """Return records of no framework."""
        arrays = {name: np.zeros((0, *tail), STORED[stored]) for name, (stored, tail) in cls.shapes.items()}
        zero = np.zeros(1, np.int64)
        return cls(**{**arrays, "offsets": zero, "edge_offsets": zero}, ids=(), property_names=property_names)

    @property
    def num_blocks(self) -> np.ndarray:
        """Blocks of each framework, int64[N]."""
        return np.diff(self.offsets)

    def select(self, indices: np.ndarray) -> "CoarseRecords":
        """Return the frameworks at `indices`, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        blocks, edges = ragged_rows(self.offsets, chosen), ragged_rows(self.edge_offsets, chosen)
        return dataclasses.replace(
            self,
            lattice=self.lattice[chosen],
            offsets=np.concatenate([[0], np.cumsum(self.num_blocks[chosen])]),
            **{name: getattr(self, name)[blocks] for name in ("frac_coords", "block_index", "is_metal")},
            num_connections=self.num_connections[blocks],
            edge_offsets=np.concatenate([[0], np.cumsum(np.diff(self.edge_offsets)[chosen])]),
            **{name: getattr(self, name)[edges] for name in ("edge_index", "edge_image", "edge_multiplicity")},
            properties=self.properties[chosen],
            ids=tuple(self.ids[i] for i in chosen),
        )
