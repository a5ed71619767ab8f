"""LAMMPS data files and commands for UFF4MOF, from our own types and terms."""

from dataclasses import dataclass

import numpy as np

from matgen.crystal.structure import Structure, reduce_cell
from matgen.relaxation.uff_terms import UffTerms

__all__ = ["LammpsCell", "data_file", "lammps_cell", "style_commands"]

_SIGMA = 2.0 ** (-1 / 6)  # sigma of Lennard-Jones over the distance of its minimum
_MARGIN = 1.15  # a cell may shrink by this much before its images of a bonded atom get confused


@dataclass(frozen=True, eq=False)
class LammpsCell:
    """A framework as LAMMPS wants it: a reduced lattice, repeated until bonds cannot be confused, turned so that a lies
    along x and b in the xy plane.

    transform: int [3, 3], the original lattice in terms of the reduced one (original = transform @ reduced).
    repeats: int [3]. rotation: [3, 3], x_lammps = x @ rotation. lattice: of the repeated cell, rotated, rows, Å.
    frac_coords: of all atoms in the repeated cell; copy c of atom i is atom c n + i. offsets: int [copies, 3].
    """

    transform: np.ndarray
    repeats: np.ndarray
    rotation: np.ndarray
    lattice: np.ndarray
    frac_coords: np.ndarray
    offsets: np.ndarray

    @property
    def num_copies(self) -> int:
        return len(self.offsets)

    def restore(self, lattice: np.ndarray, cart_coords: np.ndarray, start: Structure) -> Structure:
        """The framework in its own cell and atom order, from a cell and positions that LAMMPS ended with.

        Args:
            lattice: rows of the repeated cell, Å.
            cart_coords: all copies, relative to the cell's origin, Å.
            start: the framework that the cell was made from.
        """
        moved = cart_coords @ np.linalg.inv(lattice) - self.frac_coords
        moved = (moved - np.round(moved)) * self.repeats
        mean = moved.reshape(self.num_copies, -1, 3).mean(axis=0)
        reduced = lattice / self.repeats[:, None] @ self.rotation.T
        frac = start.frac_coords + mean @ np.linalg.inv(self.transform)
        return Structure(self.transform @ reduced, frac, start.atomic_numbers)


def lammps_cell(structure: Structure, terms: UffTerms) -> LammpsCell:
    """The cell to hand to LAMMPS.

    LAMMPS finds the atoms of a bonded term, and the pairs that it must leave out, as nearest images. So every height of
    the cell exceeds twice the longest distance between atoms that share a neighbour. Nothing else needs a large cell:
    LAMMPS makes as many images for the cutoff as it takes.
    """
    reduced, transform = reduce_cell(structure.lattice)
    if np.linalg.det(reduced) < 0:
        reduced, transform = -reduced, -transform
    excluded = terms.excluded
    cart = structure.cart_coords
    vectors = cart[excluded[:, 1]] + excluded[:, 2:] @ structure.lattice - cart[excluded[:, 0]]
    longest = float(np.sqrt((vectors**2).sum(1).max())) if len(vectors) else 1.0
    heights = 1.0 / np.linalg.norm(np.linalg.inv(reduced), axis=0)
    repeats = np.maximum(1, np.ceil(2 * _MARGIN * longest / heights)).astype(np.int64)
    grid = np.stack(np.meshgrid(*(np.arange(r) for r in repeats), indexing="ij"), axis=-1).reshape(-1, 3)
    rotation, upper = np.linalg.qr((reduced * repeats[:, None]).T)
    signs = np.sign(np.diag(upper))
    rotation, upper = rotation * signs, upper * signs[:, None]
    frac = (structure.frac_coords @ transform)[None] + grid[:, None]
    return LammpsCell(transform, repeats, rotation, np.tril(upper.T), (frac / repeats).reshape(-1, 3), grid)


def data_file(cell: LammpsCell, terms: UffTerms) -> str:
    """The text of a LAMMPS data file (atom_style molecular), bonded terms of every copy written out."""
    names = sorted(set(terms.typing.names))
    kind = np.array([names.index(name) for name in terms.typing.names]) + 1
    sections = [_Section(*args) for args in _bonded_sections(cell, terms)]
    positions = cell.frac_coords @ cell.lattice
    box = cell.lattice
    head = ["UFF4MOF", "", f"{len(positions)} atoms", f"{len(names)} atom types"]
    for section in sections:
        head += [f"{len(section.rows)} {section.word}s", f"{section.num_types} {section.word} types"]
    head += ["", *(f"0.0 {box[k, k]:.17g} {axis}lo {axis}hi" for k, axis in enumerate("xyz"))]
    head += [f"{box[1, 0]:.17g} {box[2, 0]:.17g} {box[2, 1]:.17g} xy xz yz", "", "Masses", ""]
    head += [f"{k + 1} 1.0 # {name}" for k, name in enumerate(names)]  # a minimum knows no mass
    head += ["", "Atoms # molecular", ""]
    kinds = np.tile(kind, cell.num_copies).tolist()
    head += [f"{i + 1} 1 {kinds[i]} {x!r} {y!r} {z!r}" for i, (x, y, z) in enumerate(positions.tolist())]
    for section in sections:
        if len(section.rows):
            head += ["", f"{section.word.capitalize()}s", ""]
            head += [f"{i + 1} {' '.join(map(str, row))}" for i, row in enumerate(section.rows.tolist())]
    return "\n".join(head) + "\n"


@dataclass(frozen=True, eq=False)
class _Section:
    word: str
    num_types: int
    rows: np.ndarray


def style_commands(terms: UffTerms, cutoff: float) -> tuple[list[str], list[str]]:
    """LAMMPS commands: the styles, which come before the data file, and the coefficients, which come after it."""
    styles = [
        f"pair_style lj/cut {cutoff}",
        "pair_modify shift yes mix geometric",
        "special_bonds lj 0.0 0.0 1.0",
        f"bond_style {'harmonic' if len(terms.bond_length) else 'none'}",
        f"angle_style {_angle_styles(terms)}",
        f"dihedral_style {'harmonic' if len(terms.torsion_fold) else 'none'}",
        f"improper_style {'fourier' if len(terms.improper_halves) else 'none'}",
    ]
    distance = dict(zip(terms.typing.names, terms.vdw_distance.tolist(), strict=True))
    depth = dict(zip(terms.typing.names, terms.vdw_depth.tolist(), strict=True))
    names = enumerate(sorted(distance), start=1)
    coefficients = [f"pair_coeff {k} {k} {depth[name]!r} {distance[name] * _SIGMA!r}" for k, name in names]
    for word, rows, write in (
        ("bond", _bond_constants(terms), _bond_text),
        ("angle", _angle_constants(terms), _angle_text),
        ("dihedral", _torsion_constants(terms), _torsion_text),
        ("improper", terms.improper_constants, _improper_text),
    ):
        kinds = np.unique(rows, axis=0)
        coefficients += [f"{word}_coeff {k + 1} {write(row)}" for k, row in enumerate(kinds.tolist())]
    return styles, coefficients


def _angle_styles(terms: UffTerms) -> str:
    """LAMMPS refuses a hybrid with a style that no angle uses."""
    general = terms.angle_fold == 0
    used = [name for name, mask in (("cosine/periodic", ~general), ("fourier", general)) if mask.any()]
    return " ".join(["hybrid", *used]) if used else "none"


def _bond_constants(terms: UffTerms) -> np.ndarray:
    return np.column_stack([terms.bond_stiffness, terms.bond_length])


def _angle_constants(terms: UffTerms) -> np.ndarray:
    natural = np.where(terms.angle_fold == 0, terms.angle_natural, 0.0)
    return np.column_stack([terms.angle_stiffness, terms.angle_fold, natural])


def _torsion_constants(terms: UffTerms) -> np.ndarray:
    return np.column_stack([terms.torsion_barrier, terms.torsion_sign, terms.torsion_fold])


def _bond_text(row: list[float]) -> str:
    return f"{row[0] / 2!r} {row[1]!r}"


def _angle_text(row: list[float]) -> str:
    """LAMMPS: (2/n^2) C (1 - B (-1)^n cos(n theta)); ours has no 2."""
    stiffness, fold, natural = row
    if fold:
        return f"cosine/periodic {stiffness / 2!r} {-1 if fold == 3 else 1} {int(fold)}"
    second = 1 / (4 * np.sin(natural) ** 2)
    first, constant = -4 * second * np.cos(natural), second * (2 * np.cos(natural) ** 2 + 1)
    return f"fourier {stiffness!r} {float(constant)!r} {float(first)!r} {float(second)!r}"


def _torsion_text(row: list[float]) -> str:
    return f"{row[0] / 2!r} {int(row[1])} {int(row[2])}"


def _improper_text(row: list[float]) -> str:
    stiffness, c0, c1, c2 = row
    return f"{stiffness / 3!r} {c0!r} {c1!r} {c2!r} 1"


def _bonded_sections(cell: LammpsCell, terms: UffTerms) -> list[tuple[str, int, np.ndarray]]:
    """Rows of type and atoms (from 1) of the bonded terms of every copy."""
    bonds = terms.bonds
    image = (bonds.image.reshape(-1, 3) @ cell.transform).astype(np.int64)
    zero = np.zeros_like(image)
    start = np.concatenate([bonds.first, bonds.second])
    end = np.concatenate([bonds.second, bonds.first])
    shift = np.concatenate([image, -image])
    one, two = terms.angle_halves[:, 0], terms.angle_halves[:, 1]
    i, j, k = terms.torsion_halves.T
    spokes = terms.improper_halves
    center = np.zeros_like(shift[one])
    parts = [
        ("bond", _bond_constants(terms), [(bonds.first, zero), (bonds.second, image)]),
        ("angle", _angle_constants(terms), [(end[one], shift[one]), (start[one], center), (end[two], shift[two])]),
        (
            "dihedral",
            _torsion_constants(terms),
            [
                (start[i], -shift[i]),
                (start[j], np.zeros_like(shift[j])),
                (end[j], shift[j]),
                (end[k], shift[j] + shift[k]),
            ],
        ),
        (
            "improper",
            terms.improper_constants,
            [(start[spokes[:, 0]], np.zeros_like(shift[spokes[:, 0]])), *((end[s], shift[s]) for s in spokes.T)],
        ),
    ]
    return [(word, *_rows(cell, terms.num_atoms, constants, sites)) for word, constants, sites in parts]


def _rows(
    cell: LammpsCell, num_atoms: int, constants: np.ndarray, sites: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[int, np.ndarray]:
    kinds, kind = np.unique(constants, axis=0, return_inverse=True)
    columns = []
    for atom, image in sites:
        offset = (cell.offsets[:, None] + image[None]) % cell.repeats
        copy = (offset[..., 0] * cell.repeats[1] + offset[..., 1]) * cell.repeats[2] + offset[..., 2]
        columns.append((copy * num_atoms + atom[None] + 1).reshape(-1))
    return len(kinds), np.column_stack([np.tile(kind.reshape(-1) + 1, cell.num_copies), *columns])
