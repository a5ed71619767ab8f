"""Cells that repeat a smaller one: assembled there, and copied, so that such a choice of cell changes nothing.

Centres and equal blocks that repeat do not prove that orientations do: a framework whose copies are turned differently
is found only where the small cell does not close.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from matgen.crystal.structure import Structure
from matgen.geometry.coordinates import wrap
from matgen.geometry.rotations import kabsch
from matgen.mof.assembly.contacts import shortest_contact, surroundings
from matgen.mof.assembly.problem import Assembly, AssemblyInput, connection_blocks, connection_offsets, placed_atoms
from matgen.mof.primitive import reduced_primitive_cell

if TYPE_CHECKING:
    from matgen.mof.building_block import BuildingBlock

__all__ = ["Reduction", "expand", "reduce_by_translations"]

_SAME_BLOCK = 0.02  # Å, largest deviation of an atom or connection point


@dataclass(frozen=True, eq=False)
class Reduction:
    """A framework in the smallest cell that its blocks and centres repeat.

    small: blocks, centres and that cell. basis: int [3, 3], rows of the given cell in terms of the small one.
    source: int [K], block of the small cell that each given block is a copy of. turn: float64 [K, 3, 3], given block =
    turn applied to its source.
    """

    small: AssemblyInput
    basis: np.ndarray
    source: np.ndarray
    turn: np.ndarray


def reduce_by_translations(given: AssemblyInput, tolerance: float = 0.1) -> Reduction | None:
    """Find the smaller cell.

    Args:
        given: blocks in any orientation; copies have their atoms in one order.
        tolerance: Å by which a centre may miss its copy.

    Returns:
        None where no translation maps the centres onto those of equal blocks.
    """
    kind, turn_of_kind = _kinds(given.blocks)
    if np.bincount(kind, minlength=1).min() < 2:
        return None
    places = Structure(given.lattice, given.frac_coords, kind + 1)
    cell = reduced_primitive_cell(places, tolerance)
    if cell.num_atoms == given.num_blocks:
        return None
    first = [int(np.flatnonzero(kind == k)[0]) for k in range(kind.max() + 1)]
    small_kind = cell.atomic_numbers - 1
    small = AssemblyInput(cell.lattice, cell.frac_coords, tuple(given.blocks[first[k]] for k in small_kind))
    basis = given.lattice @ np.linalg.inv(cell.lattice)
    if np.abs(basis - np.rint(basis)).max() > 1e-3:
        return None
    apart = (given.frac_coords @ basis)[:, None] - cell.frac_coords
    distance = np.linalg.norm((apart - np.rint(apart)) @ cell.lattice, axis=-1)
    distance[kind[:, None] != small_kind] = np.inf
    source = distance.argmin(axis=1)
    copies = round(abs(np.linalg.det(basis)))
    if distance.min(axis=1).max() > 3 * tolerance or (np.bincount(source, minlength=len(small_kind)) != copies).any():
        return None
    return Reduction(small, np.rint(basis).astype(np.int64), source, turn_of_kind)


def expand(reduction: Reduction, given: AssemblyInput, made: Assembly) -> Assembly:
    """The assembly of the given cell, from that of the small one.

    Args:
        reduction: of the given framework.
        given: blocks in the orientations that the rotations are to be of.
        made: of `reduction.small`.
    """
    inverse = np.linalg.inv(reduction.basis)
    source, num_copies = reduction.source, round(abs(np.linalg.det(reduction.basis)))
    wanted = given.frac_coords @ reduction.basis
    cell = np.rint(wanted - reduction.small.frac_coords[source]).astype(
        np.int64
    )  # of each copy, in small lattice steps
    unwrapped = (made.frac_coords[source] + cell) @ inverse
    home = np.rint(unwrapped - wrap(unwrapped)).astype(np.int64)
    rotations = made.rotations[source] @ reduction.turn.transpose(0, 2, 1)
    whole = replace(
        made,
        lattice=reduction.basis @ made.lattice,
        frac_coords=wrap(unwrapped),
        blocks=given.blocks,
        rotations=rotations,
        score=made.score * num_copies,
    )
    if len(made.pairs) == 0:
        return whole
    offsets, small_offsets = connection_offsets(given.blocks), connection_offsets(reduction.small.blocks)
    block = np.repeat(np.arange(len(small_offsets) - 1), np.diff(small_offsets))[made.pairs]  # [P, 2] in the small cell
    within = made.pairs - small_offsets[block]
    pairs, images = [], []
    for copy in range(len(source)):
        mine = np.flatnonzero(block[:, 0] == source[copy])
        there = cell[copy] + made.pair_image[mine]
        for row, place in zip(mine, there, strict=True):
            candidates = np.flatnonzero(source == block[row, 1])
            steps = (place - cell[candidates]) @ inverse
            at = int(np.abs(steps - np.rint(steps)).max(axis=1).argmin())
            other = candidates[at]
            pairs.append((offsets[copy] + within[row, 0], offsets[other] + within[row, 1]))
            images.append(np.rint(steps[at]).astype(np.int64) + home[other] - home[copy])
    return _measured(replace(whole, pairs=np.array(pairs), pair_image=np.array(images)))


def _measured(made: Assembly) -> Assembly:
    """The assembly with residuals and shortest contact of its own blocks: copies are equal only within a tolerance."""
    centres = made.frac_coords @ made.lattice
    block = connection_blocks(made.blocks)
    turned = [b.connection_points @ r.T for b, r in zip(made.blocks, made.rotations, strict=True)]
    points = np.concatenate(turned) + centres[block]
    first, second = made.pairs.T
    apart = points[second] + made.pair_image @ made.lattice - points[first]
    atoms = placed_atoms(made.blocks, centres, made.rotations)
    contact = shortest_contact(surroundings(made.lattice, centres, made.blocks), atoms)
    return replace(made, residuals=np.linalg.norm(apart, axis=1), shortest_contact=contact)


def _kinds(blocks: "Sequence[BuildingBlock]") -> tuple[np.ndarray, np.ndarray]:
    """Number of the first block that each is a turned copy of, counted by first appearance, and the turns [K, 3, 3]."""
    first: list[int] = []
    kind = np.zeros(len(blocks), dtype=np.int64)
    turn = np.tile(np.eye(3), (len(blocks), 1, 1))
    for k, block in enumerate(blocks):
        for number, other in enumerate(first):
            found = _turn_onto(blocks[other], block)
            if found is not None:
                kind[k], turn[k] = number, found
                break
        else:
            kind[k] = len(first)
            first.append(k)
    return kind, turn


def _turn_onto(source: "BuildingBlock", target: "BuildingBlock") -> np.ndarray | None:
    """The rotation (Kabsch) that takes one block to another with the same atoms in the same order, if there is one."""
    alike = source.role == target.role and all(
        np.array_equal(getattr(source, name), getattr(target, name))
        for name in ("atomic_numbers", "bonds", "connection_atoms")
    )
    if not alike:
        return None
    from_, to = (np.concatenate([b.cart_coords, b.connection_points]) for b in (source, target))
    turn = kabsch(to.T @ from_)
    return turn if np.abs(from_ @ turn.T - to).max() < _SAME_BLOCK else None
