"""Blocks as rigid bodies in a periodic cell: where they are in many starts at once, and what pulls and pushes them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from matgen.mof.assembly.contacts import CONTACT_RADII, connection_kinds
from matgen.mof.assembly.pairs import image_vectors, sides
from matgen.mof.assembly.problem import connection_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matgen.mof.building_block import BuildingBlock

__all__ = ["Bodies", "Contacts", "Motion", "Placement", "find_contacts", "make_bodies", "pull", "push"]

_MAX_OWN_PAIRS = 1_000_000  # of atoms, of a block and its images, that are looked at at once
_SKIN = 1.0  # Å beyond which contacts are not kept; hot blocks cross it between two searches, cold ones do not


@dataclass(frozen=True, eq=False)
class Bodies:
    """K blocks with C connections and N atoms, in their own frames.

    block, atom_block: int [C] and [N], the block of each. arm, half: [C, 3] in Å, as in `PairTable`. metal, linker: int
    [P] each, connections of either side. atoms: [N, 3] in Å. closest: [N, N] in Å, how near two atoms may come before
    they push; 0 where bonds will join them.
    """

    block: Tensor
    arm: Tensor
    half: Tensor
    metal: Tensor
    linker: Tensor
    atom_block: Tensor
    atoms: Tensor
    closest: Tensor

    @property
    def num_blocks(self) -> int:
        """K."""
        return int(self.block.max()) + 1


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the bodies are in S starts: centres [S, K, 3] in Å, rotations [S, K, 3, 3], lattice [S, 3, 3] in Å."""

    centres: Tensor
    rotations: Tensor
    lattice: Tensor


@dataclass(frozen=True, eq=False)
class Motion:
    """Slopes of an energy: along the centres [S, K, 3], turns about them [S, K, 3], strains of the cell [S, 3, 3]."""

    centres: Tensor
    turns: Tensor
    strain: Tensor

    def __add__(self, other: "Motion") -> "Motion":
        return Motion(self.centres + other.centres, self.turns + other.turns, self.strain + other.strain)


@dataclass(frozen=True, eq=False)
class Contacts:
    """Pairs of atoms that are near in some start: start, first, second int [Q]; image [Q, 3], of the second; closest
    [Q] in Å."""

    start: Tensor
    first: Tensor
    second: Tensor
    image: Tensor
    closest: Tensor


def make_bodies(blocks: "Sequence[BuildingBlock]", reach: float) -> Bodies:
    """Collect them; atoms push when nearer than `reach` times the sum of their radii."""
    block = connection_blocks(blocks)
    arm = np.concatenate([b.connection_points for b in blocks]).astype(float)
    half = arm - np.concatenate([b.cart_coords[b.connection_atoms] for b in blocks])
    is_metal = sides(blocks)
    kind = np.concatenate([connection_kinds(b) for b in blocks])
    radius = CONTACT_RADII[np.concatenate([b.atomic_numbers for b in blocks])]
    closest = np.where(kind[:, None] + kind < 2, 0.0, reach * (radius[:, None] + radius))
    return Bodies(
        torch.as_tensor(block),
        torch.as_tensor(arm, dtype=torch.float32),
        torch.as_tensor(half, dtype=torch.float32),
        torch.as_tensor(np.flatnonzero(is_metal)),
        torch.as_tensor(np.flatnonzero(~is_metal)),
        torch.as_tensor(np.repeat(np.arange(len(blocks)), [b.num_atoms for b in blocks])),
        torch.as_tensor(np.concatenate([b.cart_coords for b in blocks]), dtype=torch.float32),
        torch.as_tensor(closest, dtype=torch.float32),
    )


def pull(
    bodies: Bodies, place: Placement, sigma: float, cap: float, potential: tuple[Tensor, Tensor]
) -> tuple[Motion, Tensor]:
    """Draw softly assigned partners together.

    Args:
        bodies: the blocks.
        place: of every start.
        sigma: Å, width of the assignment, doubly stochastic by Sinkhorn's iteration.
        cap: Å; partners farther apart than this pull no harder.
        potential: logarithms [S, P] of the two sides' factors, changed in place, so that the iteration goes on at the
            next step.

    Returns:
        the slopes, and [S, P, P] in Å^2: squared misfit of every metal connection (rows) and every linker connection in
        its nearest image, mean over the two atoms of the bond. Nearest by rounding fractions: surely so for what is
        nearer than half the cell's least height.
    """
    turn = place.rotations[:, bodies.block]
    arm, half = ((turn * x[:, None]).sum(-1) for x in (bodies.arm, bodies.half))
    point = arm + place.centres[:, bodies.block]
    frac = point @ torch.linalg.inv(place.lattice)
    between = frac[:, bodies.metal][:, :, None] - frac[:, bodies.linker][:, None]
    image = torch.round(between)
    # one product of [P P, 3] a start, not P of [P, 3]
    gap = ((between - image).flatten(1, 2) @ place.lattice).view_as(between)
    one, other = half[:, bodies.metal], half[:, bodies.linker]
    bend = one.square().sum(-1)[:, :, None] + other.square().sum(-1)[:, None] + 2 * one @ other.mT
    squared = gap.square().sum(-1) + bend.clamp(min=0.0)  # rounding leaves less than nothing
    weight = _assignment(squared, sigma, potential) / torch.sqrt(1 + squared / cap**2)
    force, along = torch.zeros_like(point), torch.zeros_like(point)
    pulled = weight[..., None] * gap
    force[:, bodies.metal], force[:, bodies.linker] = pulled.sum(2), -pulled.sum(1)
    along[:, bodies.metal] = weight.sum(2, keepdim=True) * one + weight @ other
    along[:, bodies.linker] = weight.sum(1)[..., None] * other + weight.mT @ one
    torque = torch.linalg.cross(arm, force, dim=-1) + torch.linalg.cross(half, along, dim=-1)
    centres, turns = (_summed(x, bodies.block, bodies.num_blocks) for x in (force, torque))
    strain = place.lattice.mT @ (image.flatten(1, 2).mT @ pulled.flatten(1, 2))
    return Motion(centres, turns, place.centres.mT @ centres - strain), squared


def _assignment(squared: Tensor, sigma: float, potential: tuple[Tensor, Tensor]) -> Tensor:
    """[S, P, P], rows and columns sum to 1 nearly."""
    rows, columns = potential
    base = squared / (-2 * sigma * sigma)
    kernel = torch.exp((base + rows[..., None] + columns[:, None]).clamp(max=30.0))
    for _ in range(2):
        by_row = 1.0 / kernel.sum(2).clamp(min=1e-6)
        kernel = kernel * by_row[..., None]
        by_column = 1.0 / kernel.sum(1).clamp(min=1e-6)
        kernel = kernel * by_column[:, None]
        rows += by_row.log()
        columns += by_column.log()
    return kernel


def _summed(values: Tensor, block: Tensor, count: int) -> Tensor:
    return values.new_zeros(len(values), count, 3).index_add_(1, block, values)


def placed(bodies: Bodies, place: Placement) -> tuple[Tensor, Tensor]:
    """[S, N, 3] in Å: atoms from their block's centre, and where they are."""
    local = (place.rotations[:, bodies.atom_block] * bodies.atoms[:, None]).sum(-1)
    return local, local + place.centres[:, bodies.atom_block]


def push(bodies: Bodies, place: Placement, contacts: Contacts, strength: float) -> tuple[Motion, Tensor]:
    """Push atoms of different blocks apart that are too near.

    Returns:
        slopes of half `strength` times the sum of squared overlaps, and the overlaps [Q] in Å.
    """
    local, atoms = placed(bodies, place)
    shift = (contacts.image[:, None] @ place.lattice[contacts.start]).squeeze(1)
    gap = atoms[contacts.start, contacts.first] - atoms[contacts.start, contacts.second] - shift
    distance = gap.norm(dim=-1).clamp(min=1e-3)
    over = (contacts.closest - distance).clamp(min=0)
    near = over.nonzero().flatten()  # most of them only may come near
    start, first, second = (x[near] for x in (contacts.start, contacts.first, contacts.second))
    slope = (-strength * over[near] / distance[near])[:, None] * gap[near]
    force = torch.zeros_like(atoms)
    force.index_put_((start, first), slope, accumulate=True)
    force.index_put_((start, second), -slope, accumulate=True)
    turns = _summed(torch.linalg.cross(local, force, dim=-1), bodies.atom_block, bodies.num_blocks)
    centres = _summed(force, bodies.atom_block, bodies.num_blocks)
    strain = torch.zeros_like(place.lattice).index_add_(0, start, shift[near, :, None] * slope[:, None])
    return Motion(centres, turns, place.centres.mT @ centres - strain), over


def find_contacts(bodies: Bodies, place: Placement) -> Contacts:
    """Pairs of atoms that push or soon may: of two blocks in one image, the nearest by rounding fractions, of a block
    in all its own images."""
    _, atoms = placed(bodies, place)
    other = bodies.atom_block[:, None] != bodies.atom_block
    first, second = (other.triu(1) & (bodies.closest > 0)).nonzero(as_tuple=True)
    between = atoms[:, first] - atoms[:, second]
    image = torch.round(between @ torch.linalg.inv(place.lattice))
    far = (bodies.closest[first, second] + _SKIN).square()
    start, pair = ((between - image @ place.lattice).square().sum(-1) < far).nonzero(as_tuple=True)
    found = [(start, first[pair], second[pair], image[start, pair]), *_own_images(bodies, place, atoms)]
    start, first, second, image = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Contacts(start, first, second, image, bodies.closest[first, second])


def _own_images(bodies: Bodies, place: Placement, atoms: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Contacts of each block with its own images: first which images its extent lets touch it, then which atoms."""
    largest = float(bodies.closest.max()) + _SKIN
    extent = bodies.atoms.new_zeros(bodies.num_blocks)
    extent.index_reduce_(0, bodies.atom_block, bodies.atoms.norm(dim=-1), "amax")
    images = _half_of_images(place.lattice, 2 * float(extent.max()) + largest)
    shifts = images @ place.lattice
    length = shifts.norm(dim=-1)
    found = []
    near = (length.flatten()[:, None] < 2 * extent + largest).any(0)  # a start gone astray is near nothing
    for block in near.nonzero().flatten().tolist():
        mine = (bodies.atom_block == block).nonzero().flatten()
        own = atoms[:, mine]
        start, image = (length < 2 * extent[block] + largest).nonzero(as_tuple=True)
        shift, far = shifts[start, image], length[start, image]
        along = (own[start] @ shift[..., None]).squeeze(-1) / far[:, None]
        touches = far - (along.amax(1) - along.amin(1)) < largest  # as wide as the block is that way
        closest = bodies.closest[mine[:, None], mine]
        size = max(_MAX_OWN_PAIRS // len(mine) ** 2, 1)
        for some in touches.nonzero().flatten().split(size):
            there = own[start[some]]
            gap = there[:, :, None] - there[:, None] - shift[some, None, None]
            hit = (gap.square().sum(-1) < (closest + _SKIN).square()) & (closest > 0)
            which, first, second = hit.nonzero(as_tuple=True)
            found.append((start[some][which], mine[first], mine[second], images[image[some][which]]))
    return found


def _half_of_images(lattice: Tensor, reach: float) -> Tensor:
    """[T, 3], translations that may be within reach in some start, one of each and its opposite."""
    cells = lattice.double().numpy()
    cells = cells[np.isfinite(cells).all((1, 2))]  # one gone astray is dropped when the round ends
    vectors = image_vectors(cells, reach) if len(cells) else np.zeros((0, 3), dtype=np.int64)
    return torch.as_tensor(vectors[vectors @ [1_000_000, 1_000, 1] > 0], dtype=lattice.dtype)
