"""Make matgen/crystal/data/symmetry_tables.npz: operations, Wyckoff positions and site symmetries of all 230 groups.

Only two things are taken from other programs: the operations of the standard setting (moyopy; unique axis b, cell
choice 1; origin choice 2; hexagonal axes), and for each Wyckoff letter its multiplicity and first coordinate triplet
(pyxtal, after International Tables A). Everything else is computed here: the stabiliser of each position, all of its
images with their stabilisers, projectors and offsets, cosets, and the site-symmetry code of each image. The result is
exact: integers over a common denominator.

Run: python scripts/make_symmetry_tables.py            (needs the `tables` extra; about a minute)
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from moyopy import Setting, operations_from_number
from pyxtal.symmetry import Group

OUTPUT = Path(__file__).resolve().parents[1] / "matgen" / "crystal" / "data" / "symmetry_tables.npz"
DENOMINATOR = 24  # of translations
PROJECTOR_DENOMINATOR = 6
OFFSET_DENOMINATOR = 144
AXES = np.array(
    [
        [1, 0, 0], [0, 1, 0], [0, 0, 1],
        [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1],
        [1, -1, 0], [1, 1, 0], [0, 1, -1], [0, 1, 1], [-1, 0, 1], [1, 0, 1],
        [1, 2, 0], [2, 1, 0],
    ]
)  # fmt: skip
GENERIC = np.array([0.1237458, 0.2711828, 0.3814159])


def axis_index(vector: np.ndarray) -> int:
    """Index of a lattice direction among the 15 axes, -1 where it is none of them."""
    same = (vector == AXES).all(1) | (-vector == AXES).all(1)
    return int(np.flatnonzero(same)[0]) if same.any() else -1


def operation_axis(rotation: np.ndarray) -> tuple[int, int]:
    """(axis, kind) of a rotation; kind is its order, negative for an improper one; axis -1 for 1 and -1."""
    sign = round(float(np.linalg.det(rotation)))
    proper = sign * rotation
    order = {3: 1, 2: 6, 1: 4, 0: 3, -1: 2}[int(np.trace(proper))]
    if order == 1:
        return -1, sign
    for index, axis in enumerate(AXES):
        if (proper @ axis == axis).all():
            return index, sign * order
    raise AssertionError(f"no axis for {rotation.tolist()}")


def axis_class(kinds: set[int], inversion: bool) -> int:
    """Class 0..12 of one axis: 1 -1 2 m 3 2/m 4 -4 -3 6 -6 4/m 6/m."""
    if inversion:
        table = {6: 12, 4: 11, 3: 8, 2: 5}
        # a threefold axis with a mirror and inversion is 6/m, whose order-6 rotation is always present
        return next((table[k] for k in (6, 4, 3, 2) if k in kinds), 1)
    for kind, number in ((6, 9), (-6, 10), (4, 6), (-4, 7), (3, 4), (-2, 3), (2, 2)):
        if kind in kinds:
            return number
    return 0


def site_symmetry_code(rotations: np.ndarray) -> tuple[int, ...]:
    """Code of a stabiliser: for each of the 15 axes the class of all operations about it."""
    kinds: list[set[int]] = [set() for _ in AXES]
    inversion = False
    for rotation in rotations:
        axis, kind = operation_axis(rotation)
        if axis >= 0:
            kinds[axis].add(kind)
        inversion |= axis < 0 and kind == -1
    return tuple(axis_class(kind, inversion) for kind in kinds)


def exact(values: np.ndarray, denominator: int) -> np.ndarray:
    """Integers over a denominator; fails where a value is not such a fraction."""
    scaled = np.asarray(values) * denominator
    whole = np.rint(scaled)
    assert np.abs(scaled - whole).max(initial=0) < 1e-6, scaled
    return whole.astype(np.int64)


class ProjectorTable:
    """Distinct stabiliser projectors, each with a reduced basis of the translations seen across it, (1 - P) Z^3."""

    def __init__(self) -> None:
        self.rows: dict[tuple, int] = {}
        self.projectors: list[np.ndarray] = []
        self.bases: list[np.ndarray] = []
        self.duals: list[np.ndarray] = []

    def index(self, projector: np.ndarray, hexagonal: bool) -> int:
        whole = exact(projector, PROJECTOR_DENOMINATOR)
        key = (*whole.ravel().tolist(), hexagonal)
        if key not in self.rows:
            basis = self._basis(whole / PROJECTOR_DENOMINATOR, hexagonal)
            self.rows[key] = len(self.projectors)
            self.projectors.append(whole)
            self.bases.append(exact(basis, PROJECTOR_DENOMINATOR))
            self.duals.append(np.linalg.pinv(basis))
        return self.rows[key]

    @staticmethod
    def _basis(projector: np.ndarray, hexagonal: bool) -> np.ndarray:
        """[3, 3] columns: a shortest basis of (1 - P) Z^3 in the group's reference metric, zero-padded."""
        metric = np.array([[1, -0.5, 0], [-0.5, 1, 0], [0, 0, 1]]) if hexagonal else np.eye(3)
        across = np.eye(3) - projector
        rank = round(float(np.trace(across)))
        vectors = np.array(list(itertools.product((-2, -1, 0, 1, 2), repeat=3))) @ across.T
        vectors = np.unique(np.round(vectors * PROJECTOR_DENOMINATOR), axis=0) / PROJECTOR_DENOMINATOR
        norm = np.einsum("ni,ij,nj->n", vectors, metric, vectors)
        chosen: list[np.ndarray] = []
        for vector in vectors[np.lexsort((*(-vectors.T), norm.round(9)))]:
            if np.linalg.matrix_rank(np.array([*chosen, vector]), tol=1e-6) > len(chosen):
                chosen.append(vector)
        assert len(chosen) == rank
        basis = np.zeros((3, 3))
        basis[:, :rank] = np.array(chosen).reshape(rank, 3).T
        coefficients = np.linalg.pinv(basis) @ across
        assert np.allclose(coefficients, np.rint(coefficients)), "not a basis of (1 - P) Z^3"
        return basis

    def reduce(self, index: int, offset: np.ndarray) -> np.ndarray:
        """The canonical offset of a subspace among its copies by lattice translations, over OFFSET_DENOMINATOR."""
        basis = self.bases[index] / PROJECTOR_DENOMINATOR
        coefficients = np.round(self.duals[index] @ offset, 9)
        return exact(basis @ (coefficients - np.floor(coefficients)), OFFSET_DENOMINATOR)


def stabiliser(rotations: np.ndarray, translations: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Operations (indices) that fix a point modulo the lattice; their translations (24ths) with the lattice's part."""
    moved = rotations @ point + translations / DENOMINATOR - point
    fixed = np.flatnonzero(np.abs(moved - np.rint(moved)).max(1) < 1e-6)
    shift = np.rint(moved[fixed]).astype(int)
    return fixed, translations[fixed] - DENOMINATOR * shift


def wyckoff_rows(
    G: int, rotations: np.ndarray, translations: np.ndarray, table: ProjectorTable
) -> list[dict[str, Any]]:
    """All positions of one group, letter a first, each with its members (images)."""
    hexagonal = 143 <= G <= 194
    positions = []
    for position in reversed(Group(G).Wyckoff_positions):
        affine = position.ops[0].affine_matrix
        R, t = exact(affine[:3, :3], 1), exact(affine[:3, 3], DENOMINATOR)
        point = R @ GENERIC + t / DENOMINATOR
        fixed, fixed_translations = stabiliser(rotations, translations, point)
        assert len(fixed) * position.multiplicity == len(rotations), (G, position.letter)
        P = rotations[fixed].mean(0)
        tau = fixed_translations.mean(0) / DENOMINATOR
        assert np.allclose(P @ R, R) and np.allclose((np.eye(3) - P) @ (t / DENOMINATOR), tau), (G, position.letter)
        images = (rotations @ point + translations / DENOMINATOR) % 1.0
        _, first = np.unique(np.round(images, 7) % 1.0, axis=0, return_index=True)
        assert len(first) == position.multiplicity
        members, image_member = member_rows(rotations, translations, fixed, P, tau, table, hexagonal)
        coset = np.sort(first)
        positions.append(
            {
                "letter": position.letter, "multiplicity": position.multiplicity, "rotation": R, "translation": t,
                "freedom": round(float(np.trace(P))), "coset": coset, "coset_member": image_member[coset],
                "members": members,
            }
        )  # fmt: skip
    return positions


def member_rows(
    rotations: np.ndarray,
    translations: np.ndarray,
    fixed: np.ndarray,
    P: np.ndarray,
    tau: np.ndarray,
    table: ProjectorTable,
    hexagonal: bool,
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Distinct images of the subspace (P, tau) with the operation that first makes each; image of each operation."""
    found: dict[tuple, dict[str, Any]] = {}
    number: dict[tuple, int] = {}
    images: list[int] = []
    for operation, (W, w) in enumerate(zip(rotations, translations / DENOMINATOR, strict=True)):
        inverse = np.rint(np.linalg.inv(W)).astype(int)
        projector = W @ P @ inverse
        index = table.index(projector, hexagonal)
        offset = table.reduce(index, (np.eye(3) - projector) @ (W @ tau + w))
        key = (index, *offset.tolist())
        if key not in found:
            number[key] = len(found)
            code = site_symmetry_code(W @ rotations[fixed] @ inverse)
            found[key] = {"projector": index, "offset": offset, "from_first": operation, "code": code}
        images.append(number[key])
    return list(found.values()), np.array(images)


def holohedry(G: int) -> np.ndarray:
    """Proper rotations that keep every lattice of the group's crystal system, on the conventional basis."""
    number = next(n for last, n in ((2, 2), (15, 10), (74, 47), (142, 123), (194, 191), (230, 221)) if last >= G)
    rotations = np.array(operations_from_number(number, setting=Setting.standard()).rotations, dtype=int)
    return rotations[np.linalg.det(rotations) > 0]


def normalizer_rows(G: int, rotations: np.ndarray, translations: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Proper elements (Q, q in 24ths) of the Euclidean normaliser, one per coset of the group, identity first.

    Of the origins that are free along polar directions only zero is taken, and only those Q that are a symmetry of
    every lattice of the system, so that the lattice components stay what they are.
    """
    polar = np.isclose(rotations.mean(axis=0).diagonal(), 1.0)
    # halves, thirds, quarters, sixths and eighths: every normaliser of the tables moves the origin by such a fraction
    steps = [0, 3, 4, 6, 8, 9, 12, 15, 16, 18, 20, 21]
    origins = np.array(list(itertools.product(*([0] if free else steps for free in polar))))
    by_rotation: dict[tuple, list[np.ndarray]] = {}
    for W, w in zip(rotations, translations, strict=True):
        by_rotation.setdefault((*W.ravel().tolist(),), []).append(w)
    seen: set[tuple] = set()
    rows = []
    for Q in holohedry(G):
        inverse = np.rint(np.linalg.inv(Q)).astype(int)
        good = np.ones(len(origins), dtype=bool)
        for key, shifts in by_rotation.items():
            W = Q @ np.array(key).reshape(3, 3) @ inverse
            images = by_rotation.get((*W.ravel().tolist(),))
            if images is None:
                good[:] = False
                break
            for shift in shifts:  # one for each centring translation
                moved = (Q @ shift + origins[good] - origins[good] @ W.T) % DENOMINATOR
                good[good] = (moved[:, None] == np.array(images)[None]).all(axis=2).any(axis=1)
        for q in origins[good]:
            coset = rotations @ Q, (rotations @ q + translations) % DENOMINATOR
            key = min((*a.ravel().tolist(), *b.tolist()) for a, b in zip(*coset, strict=True))
            if key not in seen:
                seen.add(key)
                rows.append((Q, q))
    assert (rows[0][0] == np.eye(3)).all() and not rows[0][1].any()
    return rows


def letter_images(
    Q: np.ndarray, q: np.ndarray, rotations: np.ndarray, translations: np.ndarray, positions: list[dict[str, Any]]
) -> list[int]:
    """The position onto which a normaliser element maps each position of the group."""
    points = [row["rotation"] @ GENERIC + row["translation"] / DENOMINATOR for row in positions]
    result = []
    for row, point in zip(positions, points, strict=True):
        image = Q @ point + q / DENOMINATOR
        fixed, shifts = stabiliser(rotations, translations, image)
        P, tau = rotations[fixed].mean(0), shifts.mean(0) / DENOMINATOR
        for number, other in enumerate(positions):
            if other["multiplicity"] == row["multiplicity"] and on_same_orbit(other, P, tau, rotations, translations):
                result.append(number)
                break
    assert sorted(result) == list(range(len(positions)))
    return result


def on_same_orbit(
    position: dict[str, Any], P: np.ndarray, tau: np.ndarray, rotations: np.ndarray, translations: np.ndarray
) -> bool:
    """Whether some operation maps a position's first triplet into the subspace (P, tau), modulo the lattice."""
    point = position["rotation"] @ GENERIC[::-1] + position["translation"] / DENOMINATOR
    images = rotations @ point + translations / DENOMINATOR
    across = images - images @ P.T - tau
    # across the subspace, lattice translations are seen through 1 - P
    shifts = np.array(list(itertools.product((-2, -1, 0, 1, 2), repeat=3))) @ (np.eye(3) - P).T
    return bool((np.abs(across[:, None] - shifts[None]).max(axis=2) < 1e-6).any())


def inverse_indices(rotations: np.ndarray, translations: np.ndarray) -> list[int]:
    """Index of each operation's inverse modulo lattice translations."""
    pairs = list(zip(rotations, translations, strict=True))
    key = {(*W.ravel().tolist(), *(w % DENOMINATOR).tolist()): i for i, (W, w) in enumerate(pairs)}
    result = []
    for W, w in pairs:
        V = np.rint(np.linalg.inv(W)).astype(int)
        result.append(key[(*V.ravel().tolist(), *(-V @ w % DENOMINATOR).tolist())])
    return result


def axis_permutations(rotations: np.ndarray, group: np.ndarray) -> list[list[int]]:
    """For each rotation the image of each axis; axes that no operation of the group has stay where they are."""
    own = {operation_axis(W)[0] for W in group} - {-1}
    rows = [[axis_index(W @ axis) if u in own else u for u, axis in enumerate(AXES)] for W in rotations]
    assert all(sorted(row) == list(range(len(AXES))) for row in rows)
    return rows


def build() -> dict[str, np.ndarray]:
    """All arrays of the data file; ragged ones are flat with offsets, index 0 of group offsets is an empty group 0."""
    table = ProjectorTable()
    columns: dict[str, list[Any]] = {name: [] for name in (
        "op_rotation", "op_translation", "op_inverse", "op_axis_permutation",
        "wp_letter", "wp_multiplicity", "wp_freedom", "wp_rotation", "wp_translation", "wp_coset", "wp_coset_member",
        "member_projector", "member_offset", "member_from_first", "member_code",
        "normalizer_rotation", "normalizer_translation", "normalizer_axis_permutation", "normalizer_position",
    )}  # fmt: skip
    offsets: dict[str, list[int]] = {"group_op": [0, 0], "group_wp": [0, 0], "wp_member": [0], "wp_coset": [0]}
    offsets |= {"group_normalizer": [0, 0], "normalizer_position": [0]}
    for G in range(1, 231):
        operations = operations_from_number(G, setting=Setting.standard())
        rotations = np.array(operations.rotations, dtype=int)
        translations = exact(np.array(operations.translations), DENOMINATOR) % DENOMINATOR
        assert (rotations[0] == np.eye(3)).all() and not translations[0].any()
        columns["op_rotation"] += rotations.tolist()
        columns["op_translation"] += translations.tolist()
        columns["op_inverse"] += inverse_indices(rotations, translations)
        columns["op_axis_permutation"] += axis_permutations(rotations, rotations)
        offsets["group_op"].append(len(columns["op_rotation"]))
        positions = wyckoff_rows(G, rotations, translations, table)
        normalizer = normalizer_rows(G, rotations, translations)
        columns["normalizer_axis_permutation"] += axis_permutations(np.array([Q for Q, _ in normalizer]), rotations)
        for Q, q in normalizer:
            columns["normalizer_rotation"].append(Q)
            columns["normalizer_translation"].append(q)
            columns["normalizer_position"] += letter_images(Q, q, rotations, translations, positions)
            offsets["normalizer_position"].append(len(columns["normalizer_position"]))
        offsets["group_normalizer"].append(len(columns["normalizer_rotation"]))
        for row in positions:
            for name in ("letter", "multiplicity", "freedom", "rotation", "translation"):
                value = row[name]
                columns[f"wp_{name}"].append(ord(value) if name == "letter" else value)
            columns["wp_coset"] += row["coset"].tolist()
            columns["wp_coset_member"] += row["coset_member"].tolist()
            offsets["wp_coset"].append(len(columns["wp_coset"]))
            for member in row["members"]:
                for name, value in member.items():
                    columns[f"member_{name}"].append(value)
            offsets["wp_member"].append(len(columns["member_code"]))
        offsets["group_wp"].append(len(columns["wp_letter"]))
    return arrays(columns, offsets, table)


def arrays(
    columns: dict[str, list[Any]], offsets: dict[str, list[int]], table: ProjectorTable
) -> dict[str, np.ndarray]:
    """Columns as the smallest integer arrays, codes and projectors as indices into their distinct values."""
    codes, code_index = np.unique(np.array(columns.pop("member_code")), axis=0, return_inverse=True)
    result = {name: np.array(values) for name, values in columns.items()}
    result |= {f"{name}_offset": np.array(values) for name, values in offsets.items()}
    result |= {"code": codes, "member_code": code_index.ravel(), "axes": AXES}
    result |= {"projector": np.array(table.projectors), "projector_basis": np.array(table.bases)}
    for name, values in result.items():
        result[name] = values.astype(
            np.promote_types(np.min_scalar_type(values.min()), np.min_scalar_type(-values.max() - 1))
        )
    return result


def differing(data: dict[str, np.ndarray]) -> list[str]:
    """Names of the tables that are not what the shipped file holds."""
    with np.load(OUTPUT) as shipped:
        names = sorted(set(data) | set(shipped.files))
        return [
            name
            for name in names
            if name not in data or name not in shipped.files or not np.array_equal(data[name], shipped[name])
        ]


def main() -> None:
    """Write the tables, or compare them with the shipped ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the shipped tables differ")
    arguments = parser.parse_args()
    data = build()
    if arguments.check:
        wrong = differing(data)
        print(f"{OUTPUT.name}: {len(data)} tables, " + (f"these differ: {', '.join(wrong)}" if wrong else "all equal"))
        raise SystemExit(1 if wrong else 0)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(OUTPUT, **data)  # type: ignore[arg-type]
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size / 1024:.0f} kB")
    for name, values in data.items():
        print(f"  {name:24s} {values.dtype!s:6s} {values.shape}")


if __name__ == "__main__":
    main()
