"""Frozen symmetry tables of the 230 space groups in the standard setting.

Setting: unique axis b, cell choice 1; origin choice 2; hexagonal axes for rhombohedral groups. The data file is made by
scripts/make_symmetry_tables.py. A *position* is one Wyckoff position (index 0..1730, letter a first in each group); its
*members* are the distinct affine subspaces that the group makes of its first coordinate triplet, modulo lattice
translations. A point lies on member m where P x + offset = x, with P the mean rotation of the stabiliser.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from matgen.geometry.lattice import lattice_constraints

__all__ = ["SITE_SYMMETRY_AXES", "SITE_SYMMETRY_CLASSES", "CandidateLists", "Tables", "load_tables", "symmetry_tables"]

SITE_SYMMETRY_CLASSES = ("1", "-1", "2", "m", "3", "2/m", "4", "-4", "-3", "6", "-6", "4/m", "6/m")
"""What a number 0..12 says about one axis."""

SITE_SYMMETRY_AXES = (
    (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1),
    (1, -1, 0), (1, 1, 0), (0, 1, -1), (0, 1, 1), (-1, 0, 1), (1, 0, 1), (1, 2, 0), (2, 1, 0),
)  # fmt: skip
"""The 15 lattice directions about which some operation of some group turns.

The last two are (1, 2, 0) and (2, 1, 0): in hexagonal axes (gamma = 120 degrees) the tertiary directions are [1-10],
[120] and [210], while (1, -2, 0) and (2, -1, 0), found in published code, are the axis of no operation here.
"""


@dataclass(frozen=True)
class CandidateLists:
    """Members of each group gathered by a key (their code, or their multiplicity): a ragged table.

    Lists of group G are group_start[G]:group_start[G + 1]; list i has the key key[i] and the members
    member[start[i]:start[i + 1]].
    """

    group_start: np.ndarray
    key: np.ndarray
    start: np.ndarray
    member: np.ndarray


@dataclass(frozen=True)
class Tables:
    """All tables as flat arrays; the first six are offsets into the flat ones."""

    group_op: np.ndarray  # [232]
    group_wp: np.ndarray  # [232]
    wp_member: np.ndarray  # [1732]
    wp_coset: np.ndarray  # [1732]
    group_normalizer: np.ndarray  # [232]
    normalizer_position_start: np.ndarray  # [elements + 1] into normalizer_position
    op_rotation: np.ndarray  # float64 [O, 3, 3], acting on columns of fractional coordinates
    op_translation: np.ndarray  # float64 [O, 3]
    op_inverse: np.ndarray  # [O] index within the group
    op_axis_permutation: np.ndarray  # int8 [O, 15] image of each axis
    letters: tuple[str, ...]  # [1731]
    wp_group: np.ndarray
    wp_multiplicity: np.ndarray
    wp_freedom: np.ndarray  # 0..3 free parameters
    wp_rotation: np.ndarray  # float64 [1731, 3, 3] first coordinate triplet
    wp_translation: np.ndarray
    coset_op: np.ndarray  # flat: one operation (index within the group) per point of the orbit of a point on member 0
    coset_member: np.ndarray  # flat: the member (index within the position) that this operation reaches
    normalizer_rotation: np.ndarray  # float64 [E, 3, 3] proper elements of the Euclidean normaliser modulo the group
    normalizer_translation: np.ndarray  # float64 [E, 3]; the first of each group is the identity
    normalizer_axis_permutation: np.ndarray  # int8 [E, 15]
    normalizer_position: np.ndarray  # flat: for each element the position (index in the group) that each one becomes
    member_wp: np.ndarray  # [members]
    member_projector: np.ndarray  # index into projector
    member_offset: np.ndarray  # float64 [members, 3]
    member_from_first: np.ndarray  # operation (index within the group) that takes member 0 to this one
    member_code: np.ndarray  # index into code
    code: np.ndarray  # int8 [codes, 15] distinct site-symmetry codes
    projector: np.ndarray  # float64 [projectors, 3, 3]
    along_basis: np.ndarray  # float64 [projectors, 3, 3]: columns span the free directions; zero columns pad
    across_basis: np.ndarray  # float64 [projectors, 3, 3]: columns span (1 - P) Z^3; zero columns pad
    across_dual: np.ndarray  # float64: components of a vector across the subspace on that basis
    by_code: CandidateLists
    by_multiplicity: CandidateLists

    def positions(self, space_group_number: int) -> range:
        """Indices of the positions of a group."""
        return range(int(self.group_wp[space_group_number]), int(self.group_wp[space_group_number + 1]))

    def normalizer_positions(self, space_group_number: int) -> np.ndarray:
        """int [E, positions]: what each normaliser element makes of each position, as indices in the group."""
        first, last = self.group_normalizer[space_group_number : space_group_number + 2]
        start, stop = self.normalizer_position_start[[first, last]]
        return self.normalizer_position[start:stop].reshape(last - first, -1)

    def operations(self, space_group_number: int) -> tuple[np.ndarray, np.ndarray]:
        """Rotations [O, 3, 3] and translations [O, 3] of a group, centring included, identity first."""
        part = slice(self.group_op[space_group_number], self.group_op[space_group_number + 1])
        return self.op_rotation[part], self.op_translation[part]


def _gather(group: np.ndarray, key: np.ndarray) -> CandidateLists:
    """Members sorted by (group, key); the order of the tables inside a list."""
    order = np.lexsort((np.arange(len(group)), key, group))
    pairs = np.stack([group[order], key[order]], axis=1)
    first = np.flatnonzero(np.concatenate([[True], (pairs[1:] != pairs[:-1]).any(axis=1)]))
    group_start = np.searchsorted(pairs[first, 0], np.arange(232))
    return CandidateLists(group_start, pairs[first, 1], np.append(first, len(order)), order)


def _along_basis(projector: np.ndarray) -> np.ndarray:
    """Columns that span the range of each projector."""
    left, singular, _ = np.linalg.svd(projector)
    return left * (singular > 1e-6)[:, None, :]


@cache
def load_tables() -> Tables:
    """The tables, read once a process."""
    with files("matgen.crystal").joinpath("data/symmetry_tables.npz").open("rb") as stream:
        data: dict[str, Any] = dict(np.load(stream).items())
    ragged = ("group_op", "group_wp", "wp_member", "wp_coset", "group_normalizer")
    offsets = {name: data[f"{name}_offset"].astype(np.int64) for name in ragged}
    wp_group = np.repeat(np.arange(231), np.diff(offsets["group_wp"]))
    member_wp = np.repeat(np.arange(len(wp_group)), np.diff(offsets["wp_member"]))
    multiplicity = data["wp_multiplicity"].astype(np.int64)
    code_index = data["member_code"].astype(np.int64)
    basis = data["projector_basis"] / 6.0
    projector = data["projector"] / 6.0
    tables = Tables(
        **offsets,
        normalizer_position_start=data["normalizer_position_offset"].astype(np.int64),
        normalizer_rotation=data["normalizer_rotation"].astype(float),
        normalizer_translation=data["normalizer_translation"] / 24.0,
        normalizer_axis_permutation=data["normalizer_axis_permutation"].astype(np.int8),
        normalizer_position=data["normalizer_position"].astype(np.int64),
        op_rotation=data["op_rotation"].astype(float),
        op_translation=data["op_translation"] / 24.0,
        op_inverse=data["op_inverse"].astype(np.int64),
        op_axis_permutation=data["op_axis_permutation"],
        letters=tuple(chr(c) for c in data["wp_letter"]),
        wp_group=wp_group,
        wp_multiplicity=multiplicity,
        wp_freedom=data["wp_freedom"].astype(np.int64),
        wp_rotation=data["wp_rotation"].astype(float),
        wp_translation=data["wp_translation"] / 24.0,
        coset_op=data["wp_coset"].astype(np.int64),
        coset_member=data["wp_coset_member"].astype(np.int64),
        member_wp=member_wp,
        member_projector=data["member_projector"].astype(np.int64),
        member_offset=data["member_offset"] / 144.0,
        member_from_first=data["member_from_first"].astype(np.int64),
        member_code=code_index,
        code=data["code"].astype(np.int8),
        projector=projector,
        along_basis=_along_basis(projector),
        across_basis=basis,
        across_dual=np.linalg.pinv(basis),
        by_code=_gather(wp_group[member_wp], code_index),
        by_multiplicity=_gather(wp_group[member_wp], multiplicity[member_wp]),
    )
    for values in vars(tables).values():
        if isinstance(values, np.ndarray):
            values.setflags(write=False)
    return tables


def _padded(flat: np.ndarray, offsets: np.ndarray, dtype: type) -> np.ndarray:
    """[231, longest, ...]: rows offsets[G]:offsets[G + 1] of a flat array for each group, zero-padded."""
    counts = np.diff(offsets)
    result = np.zeros((231, int(counts.max()), *flat.shape[1:]), dtype=dtype)
    for G in range(1, 231):
        result[G, : counts[G]] = flat[offsets[G] : offsets[G + 1]]
    return result


def symmetry_tables() -> dict[str, np.ndarray]:
    """Padded arrays of all groups for the priors and the network; row 0 of each is unused.

    Returns:
        lattice_mask bool[231, 6], lattice_fixed f64[231, 6];
        operations_rotation int8[231, 192, 3, 3], operations_translation f32[231, 192, 3], num_operations int16[231];
        axis_permutation int8[231, 192, 15]: operation o turns a code c into c' with c'[axis_permutation[o]] = c;
        site_symmetry_codes int8[231, C, 15] (all codes of all positions, all orientations), num_codes int16[231];
        polar_directions f32[231, 3, 3]: lattice directions along which the origin is free, as rows, zero-padded;
        normalizer_rotation int8[231, E, 3, 3], normalizer_translation f32[231, E, 3], num_normalizer int16[231],
        normalizer_axis_permutation int8[231, E, 15]: other equivalent descriptions (origin and axes) with the same k.
    """
    tables = load_tables()
    mask, fixed = lattice_constraints()
    code_offsets = np.append(tables.by_code.group_start[:231], len(tables.by_code.key))
    result = {
        "lattice_mask": mask,
        "lattice_fixed": fixed,
        "operations_rotation": _padded(tables.op_rotation, tables.group_op, np.int8),
        "operations_translation": _padded(tables.op_translation, tables.group_op, np.float32),
        "num_operations": np.diff(tables.group_op).astype(np.int16),
        "axis_permutation": _padded(tables.op_axis_permutation, tables.group_op, np.int8),
        "site_symmetry_codes": _padded(tables.code[tables.by_code.key], code_offsets, np.int8),
        "num_codes": np.diff(code_offsets).astype(np.int16),
        "polar_directions": np.zeros((231, 3, 3), dtype=np.float32),
        "normalizer_rotation": _padded(tables.normalizer_rotation, tables.group_normalizer, np.int8),
        "normalizer_translation": _padded(tables.normalizer_translation, tables.group_normalizer, np.float32),
        "normalizer_axis_permutation": _padded(tables.normalizer_axis_permutation, tables.group_normalizer, np.int8),
        "num_normalizer": np.diff(tables.group_normalizer).astype(np.int16),
    }
    for G in range(1, 231):
        # in the standard setting the directions fixed by all rotations are axes of the cell
        polar = np.flatnonzero(np.isclose(tables.operations(G)[0].mean(axis=0).diagonal(), 1.0))
        result["polar_directions"][G, : len(polar)] = np.eye(3)[polar]
    return result
