"""Training records: many crystals as flat ragged arrays, saved as one safetensors file that is mapped, not read."""

import dataclasses
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from safetensors.numpy import save as serialise

from matgen.data.arrays import map_arrays
from matgen.errors import MatgenError

_ARRAYS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    # name: safetensors type, numpy type, shape behind the first axis
    "space_group_number": ("I16", "<i2", ()),
    "lattice_k": ("F64", "<f8", (6,)),
    "offsets": ("I64", "<i8", ()),
    "frac_coords": ("F64", "<f8", (3,)),
    "atomic_numbers": ("I16", "<i2", ()),
    "site_symmetry": ("I8", "<i1", (15,)),
    "multiplicity": ("I16", "<i2", ()),
}


class RecordsError(MatgenError):
    """A records file is missing, truncated, or breaks the invariants of its arrays."""


@runtime_checkable
class Unit(Protocol):
    """One encoded crystal with M orbits, as `Records.from_units` reads it."""

    @property
    def space_group_number(self) -> int: ...
    @property
    def lattice_k(self) -> np.ndarray: ...
    @property
    def frac_coords(self) -> np.ndarray: ...
    @property
    def atomic_numbers(self) -> np.ndarray: ...
    @property
    def site_symmetry(self) -> np.ndarray: ...
    @property
    def multiplicity(self) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """N crystals with O orbits in all; the orbits of crystal n are rows `offsets[n]:offsets[n + 1]`.

    Attributes:
        space_group_number: int16[N], 1..230.
        lattice_k: float64[N, 6], polar-form lattice vector of the conventional cell (lengths in Å).
        offsets: int64[N + 1], ascending from 0 to O.
        frac_coords: float64[O, 3] of the representatives, in [0, 1).
        atomic_numbers: int16[O], Z from 1.
        site_symmetry: int8[O, 15], class 0..12 on each symmetry axis, at the representative itself.
        multiplicity: int16[O], atoms of the orbit in the conventional cell.
        ids: name of each crystal.
    """

    space_group_number: np.ndarray
    lattice_k: np.ndarray
    offsets: np.ndarray
    frac_coords: np.ndarray
    atomic_numbers: np.ndarray
    site_symmetry: np.ndarray
    multiplicity: np.ndarray
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, (_, dtype, _) in _ARRAYS.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
        object.__setattr__(self, "ids", tuple(self.ids))
        _check_shapes(self)

    def __len__(self) -> int:
        return len(self.space_group_number)

    @property
    def num_orbits(self) -> np.ndarray:
        """Number of orbits of each crystal, int64[N]."""
        return np.diff(self.offsets)

    @classmethod
    def empty(cls) -> "Records":
        """Return records of no crystal."""
        arrays = {name: np.zeros((0, *tail), dtype) for name, (_, dtype, tail) in _ARRAYS.items()}
        return cls(**{**arrays, "offsets": np.zeros(1, np.int64)}, ids=())

    @classmethod
    def from_units(cls, units: Sequence[Unit], ids: Sequence[str]) -> "Records":
        """Put encoded crystals one after the other.

        Args:
            units: one asymmetric unit per crystal.
            ids: their names.
        """
        if not units:
            return cls.empty()
        return cls(
            space_group_number=np.array([unit.space_group_number for unit in units]),
            lattice_k=np.stack([unit.lattice_k for unit in units]),
            offsets=np.cumsum([0, *[len(unit.atomic_numbers) for unit in units]]),
            frac_coords=np.concatenate([unit.frac_coords for unit in units]) % 1.0,
            atomic_numbers=np.concatenate([unit.atomic_numbers for unit in units]),
            site_symmetry=np.concatenate([unit.site_symmetry for unit in units]),
            multiplicity=np.concatenate([unit.multiplicity for unit in units]),
            ids=tuple(ids),
        )

    def orbit_rows(self, indices: np.ndarray) -> np.ndarray:
        """Return the rows of the orbit arrays that belong to the crystals `indices`, in their order."""
        starts, counts = self.offsets[indices], self.num_orbits[indices]
        ends = np.cumsum(counts)
        return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)

    def select(self, indices: Sequence[int] | np.ndarray) -> "Records":
        """Return the crystals at `indices` (integers or a boolean mask), in that order."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        rows = self.orbit_rows(chosen)
        return Records(
            space_group_number=self.space_group_number[chosen],
            lattice_k=self.lattice_k[chosen],
            offsets=np.concatenate([[0], np.cumsum(self.num_orbits[chosen])]),
            frac_coords=self.frac_coords[rows],
            atomic_numbers=self.atomic_numbers[rows],
            site_symmetry=self.site_symmetry[rows],
            multiplicity=self.multiplicity[rows],
            ids=tuple(self.ids[i] for i in chosen),
        )

    @classmethod
    def concat(cls, parts: Sequence["Records"]) -> "Records":
        """Return the crystals of all parts, one part after the other."""
        if not parts:
            return cls.empty()
        names = [name for name in _ARRAYS if name != "offsets"]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        counts = np.concatenate([part.num_orbits for part in parts])
        return cls(
            **arrays,
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            ids=tuple(name for part in parts for name in part.ids),
        )

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, aside and then renamed.

        Args:
            path: the file; its folder must exist.

        Raises:
            RecordsError: if an id contains a line break.
        """
        if any("\n" in name for name in self.ids):
            raise RecordsError(f"{path}: an id contains a line break")
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        arrays["ids"] = np.frombuffer("\n".join(self.ids).encode(), dtype=np.uint8)
        target = Path(path)
        aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            aside.write_bytes(serialise(arrays, metadata={"format": "matgen-records-1"}))
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str) -> "Records":
        """Map a file written by `save`; pages are read when they are used.

        Args:
            path: the safetensors file.

        Returns:
            Records whose arrays are read-only views of the file.

        Raises:
            RecordsError: if the file is missing, truncated or not a records file; the message begins with its path.
        """
        try:
            types = {name: entry[:2] for name, entry in _ARRAYS.items()} | {"ids": ("U8", "u1")}
            arrays = map_arrays(Path(path), types)
            text = arrays.pop("ids").tobytes().decode()
            ids = tuple(text.split("\n")) if text or len(arrays["space_group_number"]) else ()
            return cls(**arrays, ids=ids)
        except OSError as error:
            raise RecordsError(f"{path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise RecordsError(f"{path}: not a readable records file ({error})") from error
        except RecordsError as error:
            raise RecordsError(f"{path}: {error}") from error

    def check(self) -> None:
        """Raise RecordsError at the first value out of range (reads every page of a mapped file)."""
        groups = self.space_group_number
        checks = {
            "space_group_number in 1..230": bool(((groups >= 1) & (groups <= 230)).all()),
            "lattice_k finite": bool(np.isfinite(self.lattice_k).all()),
            "frac_coords in [0, 1)": bool(((self.frac_coords >= 0) & (self.frac_coords < 1)).all()),
            "atomic_numbers from 1": bool((self.atomic_numbers >= 1).all()),
            "site_symmetry in 0..12": bool(((self.site_symmetry >= 0) & (self.site_symmetry <= 12)).all()),
            "multiplicity in 1..192": bool(((self.multiplicity >= 1) & (self.multiplicity <= 192)).all()),
            "at least one orbit a crystal": bool((self.num_orbits >= 1).all()),
        }
        broken = [name for name, holds in checks.items() if not holds]
        if broken:
            raise RecordsError(f"records break: {', '.join(broken)}")


def _check_shapes(records: Records) -> None:
    num_crystals = len(records.space_group_number)
    offsets = records.offsets
    if len(offsets) != num_crystals + 1 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise RecordsError(f"offsets must ascend from 0 and have {num_crystals + 1} entries, they have {len(offsets)}")
    for name, (_, _, tail) in _ARRAYS.items():
        if name == "offsets":
            continue
        rows = num_crystals if name in ("space_group_number", "lattice_k") else int(offsets[-1])
        shape = getattr(records, name).shape
        if shape != (rows, *tail):
            raise RecordsError(f"{name} has shape {shape}, expected {(rows, *tail)}")
    if len(records.ids) != num_crystals:
        raise RecordsError(f"{len(records.ids)} ids for {num_crystals} crystals")


def fields() -> tuple[str, ...]:
    """Return the names of the arrays of Records, `ids` last."""
    return tuple(field.name for field in dataclasses.fields(Records))
