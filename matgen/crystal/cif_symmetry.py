"""The symmetry of a CIF block: which operations it means, and all atoms of the cell from its asymmetric unit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import gemmi
import numpy as np

from matgen.errors import UnreadableStructureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int

# Å. Three decimals leave images of a special position up to 0.03 Å apart; no two atoms are ever this close.
SPECIAL_POSITION_TOLERANCE = 0.1
# Relative. A rotation that changes the metric tensor by more is not a symmetry of this cell.
METRIC_TOLERANCE = 0.03

_OPERATION_TAGS = (
    "_symmetry_equiv_pos_as_xyz",
    "_space_group_symop_operation_xyz",
    "_space_group_symop.operation_xyz",
)
_HALL_TAGS = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
_HM_TAGS = ("_space_group_name_H-M_alt", "_symmetry_space_group_name_H-M", "_space_group_name_H-M")
_NUMBER_TAGS = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
_MAGNETIC_TAGS = ("_space_group_symop_magn_operation.xyz", "_space_group_symop_magn_operation_xyz")
_EMPTY = frozenset({"", "?", "."})


@dataclass(frozen=True)
class Operations:
    """Symmetry operations x' = W x + w of one setting, closed under composition.

    Args:
        rotation: W, integers.
        translation: w, fractions of the cell in [0, 1).
        name: how the file named them, for messages.
    """

    rotation: Int[np.ndarray, "K 3 3"]
    translation: Float[np.ndarray, "K 3"]
    name: str


def is_identity_only(block: gemmi.cif.Block) -> bool:
    """Whether the block lists the identity as its only operation, as nearly all computed data sets do."""
    for tag in _OPERATION_TAGS:
        column = block.find_values(tag)
        if len(column):
            return len(column) == 1 and column[0].strip("\"' ").replace(" ", "").lower() == "x,y,z"
    return False


def operation_candidates(block: gemmi.cif.Block, cell: gemmi.UnitCell) -> list[Operations]:
    """The operation sets that the block can mean, likeliest first; several only where a name leaves the setting open.

    Args:
        block: the CIF block.
        cell: its cell; settings whose rotations are no isometries of it are left out.

    Returns:
        Operation sets; empty where the block names a symmetry that is not known. P1 where it names none at all.

    Raises:
        UnreadableStructureError: the operations are not a group, or no setting fits the cell.
    """
    for tag in _OPERATION_TAGS:
        column = block.find_values(tag)
        if len(column):
            texts = tuple(gemmi.cif.as_string(text).strip() for text in column)
            return _fitting([_listed_operations(texts)], cell)
    settings, named = _named_settings(block, cell)
    if settings:
        return _fitting([_setting_operations(xhm) for xhm in settings], cell)
    if named or any(len(block.find_values(tag)) for tag in _MAGNETIC_TAGS):
        return []
    return [_listed_operations(("x,y,z",))]


def expand(
    cell: gemmi.UnitCell,
    candidates: Sequence[Operations],
    frac_coords: Float[np.ndarray, "M 3"],
    atomic_numbers: Int[np.ndarray, " M"],
    multiplicities: Int[np.ndarray, " M"] | None,
    num_atoms: int | None,
) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, " N"]]:
    """All atoms of the cell, from the first candidate that yields what the file says of them, or the first of all.

    Args:
        cell: lengths in Å, angles in degrees.
        candidates: operation sets, likeliest first.
        frac_coords: the listed atoms.
        atomic_numbers: their Z.
        multiplicities: atoms per cell that the file states for each, or None.
        num_atoms: atoms per cell that its formula and Z state, or None.

    Returns:
        Fractional coordinates in [0, 1) and Z of all atoms, orbit by orbit.

    Raises:
        UnreadableStructureError: an atom is neither on nor off a special position.
    """
    lattice = np.array(cell.orth.mat.tolist()).T
    failure: UnreadableStructureError | None = None
    results = []
    for operations in candidates:
        try:
            orbits = [_orbit(x, operations, lattice) for x in frac_coords]
        except UnreadableStructureError as error:
            failure = failure or error
            continue
        results.append(_merged(orbits, atomic_numbers, lattice))
        agrees = multiplicities is None or [len(orbit) for orbit in orbits] == multiplicities.tolist()
        if agrees and num_atoms in (None, len(results[-1][1])):
            return results[-1]
    if not results:
        assert failure is not None
        raise failure
    return results[0]


def _orbit(x: np.ndarray, operations: Operations, lattice: np.ndarray) -> np.ndarray:
    """Images of one atom, moved onto its special position first so that rounding in the file does not split them."""
    tolerance = SPECIAL_POSITION_TOLERANCE
    for _ in range(2):
        images = operations.rotation @ x + operations.translation
        shifts = images - x
        shifts -= np.round(shifts)
        stabiliser = np.linalg.norm(shifts @ lattice, axis=1) < tolerance
        x = x + shifts[stabiliser].mean(axis=0)
    images = operations.rotation @ x + operations.translation
    images -= np.floor(images)
    order = int(stabiliser.sum())
    if order == 1:
        return images
    kept: list[np.ndarray] = []
    left = images
    while len(left):
        shifts = left - left[0]
        shifts -= np.round(shifts)
        kept.append(left[0])
        left = left[np.linalg.norm(shifts @ lattice, axis=1) >= tolerance]
    if len(kept) * order != len(images):
        raise UnreadableStructureError(
            f"an atom at {np.round(x, 5).tolist()} is within {tolerance} Å of {order} of its images, but has "
            f"{len(kept)} distinct ones under the {len(images)} operations of {operations.name}"
        )
    return np.array(kept)


def _merged(orbits: list[np.ndarray], atomic_numbers: np.ndarray, lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joins orbits; an atom that the file lists although an earlier one already generates it counts once."""
    kept: list[tuple[np.ndarray, int]] = []
    for orbit, number in zip(orbits, atomic_numbers.tolist()):
        for other, other_number in kept:
            if number != other_number or len(other) != len(orbit):
                continue
            shifts = other - orbit[0]
            shifts -= np.round(shifts)
            if np.linalg.norm(shifts @ lattice, axis=1).min() < SPECIAL_POSITION_TOLERANCE:
                break
        else:
            kept.append((orbit, number))
    numbers = np.concatenate([np.full(len(orbit), number) for orbit, number in kept])
    return np.concatenate([orbit for orbit, _ in kept]), numbers


def _fitting(candidates: list[Operations], cell: gemmi.UnitCell) -> list[Operations]:
    lattice = np.array(cell.orth.mat.tolist()).T
    metric = lattice @ lattice.T
    lengths = np.sqrt(np.diag(metric))
    scale = np.outer(lengths, lengths)
    fitting = []
    worst = 0.0
    for operations in candidates:
        W = operations.rotation.astype(float)
        deviation = float(np.abs((W.transpose(0, 2, 1) @ metric @ W - metric) / scale).max())
        worst = max(worst, deviation)
        if deviation < METRIC_TOLERANCE:
            fitting.append(operations)
    if not fitting:
        names = ", ".join(operations.name for operations in candidates[:3])
        raise UnreadableStructureError(
            f"the cell {np.round(cell.parameters, 4).tolist()} does not have the symmetry that the file states "
            f"({names}): its metric tensor changes by {worst:.1%}"
        )
    return fitting


@lru_cache(maxsize=512)
def _listed_operations(texts: tuple[str, ...]) -> Operations:
    try:
        parsed = [gemmi.Op(text).wrap() for text in texts]
    except (ValueError, RuntimeError) as error:
        raise UnreadableStructureError(f"a symmetry operation cannot be read: {error}") from None
    unique = list(dict.fromkeys(op.triplet() for op in parsed))
    operations = _operations([gemmi.Op(triplet) for triplet in unique], f"{len(unique)} listed operations")
    _assert_group(operations)
    return operations


@lru_cache(maxsize=1024)
def _setting_operations(xhm: str) -> Operations:
    return _operations(list(gemmi.SpaceGroup(xhm).operations()), xhm)


def _operations(ops: list[gemmi.Op], name: str) -> Operations:
    rotation = np.array([op.rot for op in ops]) // gemmi.Op.DEN
    translation = np.array([op.tran for op in ops]) / gemmi.Op.DEN
    return Operations(rotation, translation - np.floor(translation), name)


def _assert_group(operations: Operations) -> None:
    """Refuses lists without their centring or with a missing line: they would lose atoms without a word."""
    W, w = operations.rotation, operations.translation
    rotations = (W[:, None] @ W[None]).reshape(-1, 9)
    translations = _on_grid(np.einsum("iab,jb->ija", W, w) + w[:, None]).reshape(-1, 3)
    products = np.concatenate([rotations, translations], axis=1)
    members = {tuple(row) for row in np.concatenate([W.reshape(-1, 9), _on_grid(w)], axis=1).tolist()}
    if len({tuple(row) for row in products.tolist()} | members) != len(members):
        raise UnreadableStructureError(f"the {len(members)} listed symmetry operations are no group: some are missing")


def _on_grid(translation: np.ndarray) -> np.ndarray:
    return np.round(translation * gemmi.Op.DEN).astype(int) % gemmi.Op.DEN


def _named_settings(block: gemmi.cif.Block, cell: gemmi.UnitCell) -> tuple[list[str], bool]:
    """Settings that the Hall symbol, else the H-M symbol, else the number can mean; and whether any was given."""
    named = False
    for text in _values(block, _HALL_TAGS):
        named = True
        group = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(text)) if _is_hall(text) else None
        if group is not None:
            return [group.xhm()], True
    for text in _values(block, _HM_TAGS):
        named = True
        settings = _settings_of_symbol(text, cell)
        if settings:
            return settings, True
    for text in _values(block, _NUMBER_TAGS):
        named = True
        if text.isdecimal() and 1 <= int(text) <= 230:
            groups = [group for group in gemmi.spacegroup_table() if group.number == int(text)]
            return [group.xhm() for group in sorted(groups, key=_unusual)], True
    return [], named


def _values(block: gemmi.cif.Block, tags: Sequence[str]) -> list[str]:
    values = [block.find_value(tag) for tag in tags]
    texts = [gemmi.cif.as_string(value).strip() for value in values if value is not None]
    return [text for text in texts if text not in _EMPTY]


def _is_hall(text: str) -> bool:
    try:
        gemmi.symops_from_hall(text)
    except (ValueError, RuntimeError):
        return False
    return True


def _settings_of_symbol(text: str, cell: gemmi.UnitCell) -> list[str]:
    """All origins of a symbol that names none, origin choice 2 first; the axes of R groups follow from the cell."""
    symbol = text.replace("_", "")
    # the inorganic crystal structure database writes origin choice 1 and 2 as S and Z, and hexagonal axes as H
    for suffix, extension in ((" S", ":1"), (" Z", ":2"), (" H", ":H"), (" R", ":R")):
        if symbol.endswith((suffix, suffix.replace(" ", " :"))):
            symbol = symbol[: symbol.rindex(" ")] + extension
    group = gemmi.find_spacegroup_by_name(symbol, cell.alpha, cell.gamma)
    if group is None:
        return []
    if ":" in symbol or group.ext not in ("1", "2"):
        return [group.xhm()]
    return [f"{group.hm}:2", f"{group.hm}:1"]


def _unusual(group: gemmi.SpaceGroup) -> tuple[bool, bool]:
    """Sorts the settings of a number, the standard one first (b unique, origin choice 2, hexagonal axes)."""
    return (not group.is_reference_setting() and group.ext != "2", group.ext == "1")
