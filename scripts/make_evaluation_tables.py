"""Make matgen/evaluation/data/group_relations.npz: which space-group types contain which, and how the Euclidean
normaliser of each group permutes its Wyckoff letters.

    python scripts/make_evaluation_tables.py

Both come from moyopy. `supergroup[H, G]`: type H has a subgroup of type G: the transitive closure over
translationengleiche subgroups of any depth and klassengleiche subgroups of index 2 to 5 (non-isomorphic maximal ones
have index 2, 3 or 4; index 5 adds the enantiomorphic pairs of sixfold screws). `letters[g]`: rows of a group's letter
permutations, `letter_offset` the rows of each group; for a cell whose metric has no accidental symmetry.
"""

import sys
from pathlib import Path

import numpy as np
from moyopy import (
    Cell,
    MoyoDataset,
    Setting,
    SpaceGroup,
    enumerate_klassengleiche_subgroups_by_index,
    enumerate_translationengleiche_subgroups,
    operations_from_number,
)

OUTPUT = Path(__file__).parents[1] / "matgen" / "evaluation" / "data" / "group_relations.npz"
SYMMETRY_TABLES = Path(__file__).parents[1] / "matgen" / "crystal" / "data" / "symmetry_tables.npz"
MAX_LETTERS = 27
GENERIC = np.array([0.1327, 0.2213, 0.3571])


def direct_subgroups(number: int) -> set[int]:
    """Types of all t-subgroups, and of k-subgroups of index 2 to 5, of one group."""
    operations = operations_from_number(number, setting=Setting.standard(), primitive=True)
    classes = enumerate_translationengleiche_subgroups(operations.rotations, operations.translations)
    for index in (2, 3, 4, 5):
        classes += enumerate_klassengleiche_subgroups_by_index(operations.rotations, operations.translations, index)
    found = set()
    for conjugacy_class in classes:
        subgroup = conjugacy_class.representative.operations
        found.add(int(SpaceGroup(subgroup.rotations, subgroup.translations).number))
    return found


def supergroup_matrix() -> np.ndarray:
    """bool[231, 231]: [H, G] is whether H contains a group of type G; reflexive and transitive."""
    contains = np.zeros((231, 231), dtype=bool)
    for number in range(1, 231):
        contains[number, number] = True
        contains[number, sorted(direct_subgroups(number))] = True
        print(number, contains[number].sum(), file=sys.stderr)
    for middle in range(1, 231):
        contains |= contains[:, middle, None] & contains[None, middle, :]
    return contains


def generic_lattice(number: int) -> np.ndarray:
    """A lattice of the group's crystal system without accidental symmetry, standard setting."""
    if number <= 2:
        return np.array([[5.03, 0, 0], [0.81, 5.59, 0], [1.13, 0.67, 6.31]])
    if number <= 15:
        return np.array([[5.03, 0, 0], [0, 5.59, 0], [-1.37, 0, 6.31]])
    if number <= 74:
        return np.diag([5.03, 5.59, 6.31])
    if number <= 142:
        return np.diag([5.03, 5.03, 6.31])
    if number <= 194:
        return np.array([[5.03, 0, 0], [-2.515, 5.03 * np.sqrt(0.75), 0], [0, 0, 6.31]])
    return np.eye(3) * 5.03


def orbit(operations, point: np.ndarray) -> np.ndarray:
    """Distinct images of a point under the operations of the conventional cell."""
    images = np.array(operations.rotations) @ point + np.array(operations.translations)
    kept: list[np.ndarray] = []
    for image in images - np.floor(images):
        if not any(np.abs((image - other) - np.round(image - other)).max() < 1e-6 for other in kept):
            kept.append(image)
    return np.array(kept)


def letter_permutations(number: int, points: np.ndarray) -> np.ndarray:
    """int8[P, 27]: row p sends letter i to letter row[i]; -1 beyond the group's letters; identity first."""
    operations = operations_from_number(number, setting=Setting.standard(), primitive=False)
    # Three general orbits more keep the structure from having a higher symmetry than the group.
    general = [GENERIC - 0.0217, GENERIC[[1, 2, 0]] + 0.0731, GENERIC[[2, 0, 1]] - 0.0419]
    orbits = [orbit(operations, point) for point in [*points, *general]]
    coords = np.concatenate(orbits)
    numbers = np.repeat(np.arange(1, len(orbits) + 1), [len(o) for o in orbits])
    cell = Cell(generic_lattice(number).tolist(), coords.tolist(), numbers.tolist())
    dataset = MoyoDataset(cell, symprec=1e-5, setting=Setting.standard())
    assert dataset.number == number, (number, dataset.number)
    normaliser = dataset.normalizer_wyckoff_positions()
    identity = [letter_index(w.letter) for w in normaliser.wyckoffs]
    assert set(identity) == set(range(len(points))), number
    rows = set()
    for _, positions in normaliser.coset_representatives:
        row = np.full(MAX_LETTERS, -1, dtype=np.int8)
        row[identity] = [letter_index(w.letter) for w in positions]
        rows.add(tuple(row.tolist()))
    unit = tuple(list(range(len(points))) + [-1] * (MAX_LETTERS - len(points)))
    return np.array([unit, *sorted(rows - {unit})], dtype=np.int8)


def letter_index(letter: str) -> int:
    """a = 0 .. z = 25, and A = 26 (the general position of Pmmm)."""
    return 26 if letter == "A" else ord(letter) - ord("a")


def main() -> None:
    tables = np.load(SYMMETRY_TABLES)
    offset = tables["group_wp_offset"]
    permutations = []
    for number in range(1, 231):
        rows = slice(offset[number], offset[number + 1])
        shift = np.arange(rows.stop - rows.start)[:, None] * np.array([0.00713, 0.00517, 0.00911])
        points = np.einsum("wij,wj->wi", tables["wp_rotation"][rows], GENERIC + shift)
        points += tables["wp_translation"][rows] / 24
        permutations.append(letter_permutations(number, points))
    letter_offset = np.cumsum([0, 0] + [len(p) for p in permutations]).astype(np.int16)
    OUTPUT.parent.mkdir(exist_ok=True)
    contains = supergroup_matrix()
    np.savez_compressed(OUTPUT, supergroup=contains, letters=np.concatenate(permutations), letter_offset=letter_offset)


if __name__ == "__main__":
    main()
