"""Where a start of an annealing came to: what is open, what is too near, and whether it is a net."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from matgen.geometry.rotations import kabsch
from matgen.mof.assembly.bodies import Bodies, Contacts, Placement
from matgen.mof.assembly.problem import AssemblyInput
from matgen.mof.handedness import mirrored
from matgen.mof.periodic_graph import find_components

__all__ = ["Annealed", "judged", "order"]

_OPEN = 0.7  # Å, root mean square over the two atoms of a bond
_DEEP = 0.35  # share of the closest distance by which a contact is too near


@dataclass(frozen=True, eq=False)
class Annealed:
    """One start when its round ended.

    given: blocks as given, cell and centres where they came to. rotations: float64 [K, 3, 3], of the blocks; improper
    where a block became its mirror image. num_open: pairs whose two sides are apart. misfit: Å^2, summed over the pairs
    of the best assignment (what is far costs the same anywhere), and half the squared overlaps of atoms. loose: bool
    [K], blocks with open pairs, or deep in others; all blocks of what closed as chains or layers. is_net: whether all
    is closed, and one net or several.
    """

    given: AssemblyInput
    rotations: np.ndarray
    num_open: int
    misfit: float
    loose: np.ndarray
    is_net: bool

    @property
    def mirrored(self) -> np.ndarray:
        """Which blocks became their mirror images, bool [K]."""
        return np.asarray(np.linalg.det(self.rotations) < 0)

    def with_hands(self) -> tuple[AssemblyInput, np.ndarray]:
        """The same with these blocks exchanged, and rotations that are proper."""
        flags = self.mirrored
        blocks = tuple(mirrored(b) if flip else b for b, flip in zip(self.given.blocks, flags, strict=True))
        return replace(self.given, blocks=blocks), np.where(flags[:, None, None], -self.rotations, self.rotations)


def order(state: Annealed) -> tuple[int, bool, float]:
    """The best first: closed ones, of these nets, then by misfit."""
    return state.num_open, not state.is_net, state.misfit


def judged(
    bodies: Bodies, given: AssemblyInput, place: Placement, squared: Tensor, contacts: Contacts, over: Tensor
) -> list[Annealed]:
    """Read off what became of all starts; one that is not finite is dropped.

    Args:
        bodies: the blocks.
        given: these, with cell and centres as given.
        place: where they are.
        squared: [S, P, P] in Å^2, of `pull`.
        contacts: and what goes with them:
        over: [Q] in Å, overlaps of `push`.

    Returns:
        the best first.
    """
    overlap = torch.zeros(len(squared)).index_add_(0, contacts.start, over.square())
    deep = torch.zeros(len(squared), bodies.num_blocks, dtype=torch.bool)
    for atoms in (contacts.first, contacts.second):
        is_deep = over > _DEEP * contacts.closest
        deep[contacts.start[is_deep], bodies.atom_block[atoms[is_deep]]] = True
    kept = torch.isfinite(place.centres).flatten(1).all(1) & torch.isfinite(place.lattice).flatten(1).all(1)
    states = [
        _judged(bodies, given, place, s, squared[s].numpy(), float(overlap[s]), deep[s].numpy())
        for s in kept.nonzero().flatten().tolist()
    ]
    return sorted(states, key=order)


def _judged(
    bodies: Bodies,
    given: AssemblyInput,
    place: Placement,
    start: int,
    squared: np.ndarray,
    overlap: float,
    deep: np.ndarray,
) -> Annealed:
    cost = 9.0 * squared / (9.0 + squared)  # as in `match`
    i, j = linear_sum_assignment(cost)
    is_open = squared[i, j] > _OPEN**2
    loose = np.zeros(bodies.num_blocks, dtype=bool) if is_open.any() else deep
    for side, at in ((bodies.metal, i), (bodies.linker, j)):
        loose[bodies.block[side[at[is_open]]]] = True
    lattice, centres, rotations = (x[start].double().numpy() for x in (place.lattice, place.centres, place.rotations))
    hand = np.sign(np.linalg.det(rotations))[:, None, None]
    rotations = hand * kabsch(hand * rotations)  # products of many steps in single precision are not quite orthogonal
    moved = replace(given, lattice=lattice, frac_coords=centres @ np.linalg.inv(lattice))
    is_net = not is_open.any() and _is_net(bodies, moved, rotations, bodies.metal[i].numpy(), bodies.linker[j].numpy())
    if not is_open.any() and not is_net:
        loose[:] = True
    return Annealed(moved, rotations, int(is_open.sum()), float(cost[i, j].sum()) + 0.5 * overlap, loose, is_net)


def _is_net(bodies: Bodies, given: AssemblyInput, rotations: np.ndarray, first: np.ndarray, second: np.ndarray) -> bool:
    """Whether pairs of connections, each in its nearest image, make nets of all blocks."""
    block = bodies.block.numpy()
    arm = (rotations[block] @ bodies.arm.double().numpy()[..., None])[..., 0]
    point = given.frac_coords[block] + arm @ np.linalg.inv(given.lattice)
    image = np.round(point[first] - point[second]).astype(np.int64)
    found = find_components(given.num_blocks, block[first], block[second], image)
    return bool((found.dimension == 3).all())
