"""A set of structures that new ones are held against: flat arrays, grouped by reduced formula."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from matgen.crystal.structure import Structure
from matgen.errors import SourceError
from matgen.evaluation.archives import write_arrays


def content_hash(structures: Iterable[Structure]) -> str:
    """SHA-256 (hex) over the arrays of structures in their order: the key under which derived figures are cached."""
    digest = hashlib.sha256()
    for structure in structures:
        _update(digest, structure)
    return digest.hexdigest()


def structure_hash(structure: Structure) -> str:
    """SHA-256 (hex) of one structure's arrays: an order among structures that does not depend on where they stand."""
    digest = hashlib.sha256()
    _update(digest, structure)
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", structure: Structure) -> None:
    digest.update(np.ascontiguousarray(structure.lattice, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(structure.frac_coords, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(structure.atomic_numbers, dtype="<i8").tobytes())


@dataclass(frozen=True)
class ReferenceIndex:
    """Reference structures, kept as flat arrays: 60,000 of ten atoms are 20 MB, and go to a worker as they are.

    name: printed with every figure. ids: text[N]. lattices: float64[N, 3, 3], Å. offsets: int64[N + 1] into
    frac_coords float64[A, 3] and atomic_numbers int16[A]. formulas: reduced formula of each, text[N].
    """

    name: str
    ids: np.ndarray
    lattices: np.ndarray
    offsets: np.ndarray
    frac_coords: np.ndarray
    atomic_numbers: np.ndarray
    formulas: np.ndarray

    @classmethod
    def from_structures(cls, name: str, structures: Iterable[Structure], ids: Iterable[str]) -> "ReferenceIndex":
        """Pack structures, read one at a time.

        Args:
            name: printed with every figure, such as "MP-20 train".
            structures: any iterable.
            ids: one text per structure.
        """
        lattices, coords, numbers, formulas = [], [], [], []
        for structure in structures:
            lattices.append(np.asarray(structure.lattice, dtype=np.float64))
            coords.append(np.asarray(structure.frac_coords, dtype=np.float64))
            numbers.append(np.asarray(structure.atomic_numbers, dtype=np.int16))
            formulas.append(structure.formula)
        packed_ids = np.array(list(ids), dtype=np.str_)
        if len(packed_ids) != len(lattices):
            raise ValueError(f"{len(lattices)} structures but {len(packed_ids)} ids")
        return cls(
            name,
            packed_ids,
            np.array(lattices).reshape(-1, 3, 3),
            np.cumsum([0] + [len(n) for n in numbers]),
            np.concatenate(coords) if coords else np.zeros((0, 3)),
            np.concatenate(numbers) if numbers else np.zeros(0, dtype=np.int16),
            np.array(formulas, dtype=np.str_),
        )

    def __len__(self) -> int:
        return len(self.lattices)

    def __getitem__(self, row: int) -> Structure:
        atoms = slice(self.offsets[row], self.offsets[row + 1])
        return Structure(self.lattices[row], self.frac_coords[atoms], self.atomic_numbers[atoms].astype(np.int64))

    def __iter__(self) -> Iterator[Structure]:
        return (self[row] for row in range(len(self)))

    @cached_property
    def _rows_by_formula(self) -> dict[str, np.ndarray]:
        if len(self) == 0:
            return {}  # np.split would still give one (empty) piece
        order = np.argsort(self.formulas, kind="stable")
        formulas, starts = np.unique(self.formulas[order], return_index=True)
        return dict(zip(formulas.tolist(), np.split(order, starts[1:]), strict=True))

    def rows(self, formula: str) -> np.ndarray:
        """Rows of the structures with this reduced formula (Hill order), possibly none."""
        return self._rows_by_formula.get(formula, np.zeros(0, dtype=np.int64))

    def select_formulas(self, formulas: Iterable[str]) -> "ReferenceIndex":
        """The part of the index that a shard with these formulas can need."""
        rows = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *(self.rows(f) for f in sorted(set(formulas)))]))
        return ReferenceIndex.from_structures(self.name, (self[int(r)] for r in rows), self.ids[rows].tolist())

    def save(self, path: Path) -> None:
        """Write to an .npz file, aside and then renamed."""
        fields = ("ids", "lattices", "offsets", "frac_coords", "atomic_numbers", "formulas")
        write_arrays(path, name=np.array(self.name), **{name: getattr(self, name) for name in fields})

    @classmethod
    def load(cls, path: Path) -> "ReferenceIndex":
        """Read what `save` wrote.

        Raises:
            SourceError: the file is missing or not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                fields = {name: archive[name] for name in archive.files}
            return cls(**(fields | {"name": str(fields["name"])}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{path} is not a reference index: {error}") from error
