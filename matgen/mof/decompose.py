"""A framework cut into metal nodes, linkers and node bridges, with the connection points where they were joined."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from matgen.crystal.elements import COVALENT_RADII, SYMBOLS
from matgen.crystal.structure import Structure
from matgen.errors import ClashError, DecompositionError
from matgen.mof.bonds import Bonds, BondsConfig, find_bonds
from matgen.mof.building_block import LINKER, METAL_NODE, BuildingBlock, Role
from matgen.mof.fragments import Parts, find_parts, hill_formula
from matgen.mof.framework import Framework, RemovedSpecies
from matgen.mof.metals import IS_METAL
from matgen.mof.periodic_graph import Components, find_components
from matgen.mof.primitive import reduced_primitive_cell
from matgen.mof.solvents import is_solvent

__all__ = ["DecomposeConfig", "Framework", "decompose"]

_MAX_BONDS = {1: 2, 6: 4, 7: 4, 9: 2}
"""Most bonds that a hydrogen, carbon, nitrogen or fluorine has to non-metals."""


@dataclass(frozen=True, kw_only=True)
class DecomposeConfig:
    """Tolerances and limits; the limits are far beyond ordinary frameworks.

    Args:
        bonds: which distances are bonds.
        primitive_tolerance: Å, of the translations that make the cell primitive; 0 keeps the cell.
        min_distance_ratio: two non-metal atoms nearer than this multiple of their radii's sum clash.
        remove_bound_solvent: take off solvent molecules that one node holds; else they stay with it.
        max_atoms: in the primitive cell.
        max_blocks: in the primitive cell.
        max_block_atoms: of a block.
        max_block_connections: of a block.
    """

    bonds: BondsConfig = field(default_factory=BondsConfig)
    primitive_tolerance: float = 0.1
    min_distance_ratio: float = 0.6
    remove_bound_solvent: bool = True
    max_atoms: int = 5000
    max_blocks: int = 1000
    max_block_atoms: int = 500
    max_block_connections: int = 100


def decompose(structure: Structure, config: DecomposeConfig | None = None) -> Framework:
    """Cut a metal-organic framework by the metal-oxo rule.

    Bonds of metals to carboxylates, azolates and the like are cut in their middle; oxygen, hydroxide and single atoms
    stay with the metals. Rods are cut at their bridging oxygens. Terminal ligands stay with their node; solvent and
    whatever hangs on nothing is removed and reported.

    Args:
        structure: any cell, ordered.
        config: tolerances and limits.

    Returns:
        the framework in a reduced primitive cell; each status that it may refuse with is stated below.

    Raises:
        DecompositionError: status no_metal (nothing but non-metals), no_linker (no organic part joins nodes), isolated
            (molecules or ions only), polymer (non-metals alone form an endless chain), overcoordinated (an atom with
            more neighbors than its element can have), too_large (over a limit).
        ClashError: two atoms are too close.
    """
    config = config or DecomposeConfig()
    if not IS_METAL[structure.atomic_numbers].any():
        raise DecompositionError(f"{structure.formula} has no metal", status="no_metal")
    if config.primitive_tolerance > 0:
        structure = reduced_primitive_cell(structure, config.primitive_tolerance)
    _limit(structure.num_atoms, config.max_atoms, "atoms in the primitive cell")
    bonds = find_bonds(structure, config.bonds)
    distances = np.linalg.norm(bonds.vectors(structure), axis=1)
    _refuse_bad_contacts(structure, bonds, distances, config)
    parts = find_parts(structure.atomic_numbers, bonds, distances, config.remove_bound_solvent)
    if LINKER not in parts.roles:
        raise DecompositionError(f"{structure.formula} has no fragment that could be a linker", status="no_linker")
    parts, dimension = _pruned(structure.atomic_numbers, parts, config)
    return _built(structure, parts, dimension, config)


def _limit(value: int, limit: int, what: str) -> None:
    if value > limit:
        raise DecompositionError(f"{value} {what}, more than the limit of {limit}", status="too_large")


def _refuse_bad_contacts(structure: Structure, bonds: Bonds, distances: np.ndarray, config: DecomposeConfig) -> None:
    numbers = structure.atomic_numbers
    radii = COVALENT_RADII[np.minimum(numbers, len(COVALENT_RADII) - 1)]
    ratio = distances / (radii[bonds.first] + radii[bonds.second])
    if len(ratio) and ratio.min() < config.min_distance_ratio:
        worst = int(ratio.argmin())
        pair = "-".join(SYMBOLS[numbers[i]] for i in (bonds.first[worst], bonds.second[worst]))
        raise ClashError(f"{pair} of {distances[worst]:.2f} Å, {ratio[worst]:.2f} times the sum of the radii")
    metal = IS_METAL[numbers]
    inner = ~(metal[bonds.first] | metal[bonds.second])
    degree = np.bincount(np.concatenate([bonds.first[inner], bonds.second[inner]]), minlength=len(numbers))
    for number, most in _MAX_BONDS.items():
        over = np.flatnonzero((numbers == number) & (degree > most))
        if len(over):
            raise DecompositionError(
                f"{len(over)} {SYMBOLS[number]} with up to {degree[over].max()} non-metal neighbors, more than {most}",
                status="overcoordinated",
            )


def _cut(bonds: Bonds, part: np.ndarray) -> Bonds:
    return bonds[(part[bonds.first] != part[bonds.second]) & (part[bonds.first] >= 0) & (part[bonds.second] >= 0)]


def _inner(num_atoms: int, bonds: Bonds, part: np.ndarray) -> Components:
    same = (part[bonds.first] == part[bonds.second]) & (part[bonds.first] >= 0)
    inner = bonds[same]
    return find_components(num_atoms, inner.first, inner.second, inner.image)


def _pruned(numbers: np.ndarray, parts: Parts, config: DecomposeConfig) -> tuple[Parts, int]:
    """Drop what belongs to no endless net, and merge or remove what hangs on a single neighbor."""
    part, removed, bonds = parts.part.copy(), list(parts.removed), parts.bonds
    inner = _inner(len(numbers), bonds, part)
    _refuse_endless(numbers, part, parts.roles, inner)
    cut = _cut(bonds, part)
    first, second = part[cut.first], part[cut.second]
    image = inner.offset[cut.first] + cut.image - inner.offset[cut.second]
    nets = find_components(len(parts.roles), first, second, image)
    dimension = int(nets.dimension.max(initial=0))
    if dimension == 0:
        raise DecompositionError("only molecules or ions, nothing endless", status="isolated")
    for net in np.flatnonzero(nets.dimension == 0):
        atoms = np.isin(part, np.flatnonzero(nets.label == net))
        part[atoms] = -1
        removed.append((hill_formula(numbers[atoms]), "free"))
    target = _leaves(numbers, part, parts.roles, first, second, image, nets, config)
    for leaf, root in target.items():
        atoms = part == leaf
        if root < 0:
            removed.append((hill_formula(numbers[atoms]), "bound"))
        part[atoms] = root
    return Parts(part, parts.roles, removed, bonds), dimension


def _refuse_endless(numbers: np.ndarray, part: np.ndarray, roles: list[Role], inner: Components) -> None:
    endless = np.flatnonzero((inner.dimension[inner.label] > 0) & (part >= 0))
    if len(endless):
        atoms = inner.label == inner.label[endless[0]]
        formula = hill_formula(numbers[atoms])
        raise DecompositionError(f"{formula} ({roles[part[endless[0]]]}) is endless by itself", status="polymer")


def _leaves(
    numbers: np.ndarray,
    part: np.ndarray,
    roles: list[Role],
    first: np.ndarray,
    second: np.ndarray,
    image: np.ndarray,
    nets: Components,
    config: DecomposeConfig,
) -> dict[int, int]:
    """For each part that hangs on one neighbor, the part it merges into, or -1 for solvent."""
    neighbors: list[set[tuple[int, int, int, int]]] = [set() for _ in roles]
    for i, j, (x, y, z) in zip(first.tolist(), second.tolist(), image.tolist(), strict=True):
        neighbors[i].add((j, x, y, z))
        neighbors[j].add((i, -x, -y, -z))
    target: dict[int, int] = {}
    queue = [i for i, sites in enumerate(neighbors) if len(sites) == 1 and nets.dimension[nets.label[i]] > 0]
    for leaf in queue:  # grows while it is read
        ((root, x, y, z),) = neighbors[leaf]
        is_plain = roles[leaf] == LINKER and leaf not in target.values()
        solvent = config.remove_bound_solvent and is_plain and is_solvent(hill_formula(numbers[part == leaf]))
        target[leaf] = -1 if solvent else root
        neighbors[root].discard((leaf, -x, -y, -z))
        if len(neighbors[root]) == 1:
            queue.append(root)
    return {leaf: _root(leaf, target) for leaf in target}


def _root(leaf: int, target: dict[int, int]) -> int:
    root = target[leaf]
    while root in target and root >= 0:
        root = target[root]
    return root


def _built(structure: Structure, parts: Parts, dimension: int, config: DecomposeConfig) -> Framework:
    part, bonds, numbers = parts.part, parts.bonds, structure.atomic_numbers
    unwrapped = _inner(len(numbers), bonds, part)
    cut = _cut(bonds, part)
    flip = np.array([role != METAL_NODE for role in parts.roles])[part[cut.first]]
    a, b = np.where(flip, cut.second, cut.first), np.where(flip, cut.first, cut.second)
    image = np.where(flip[:, None], -cut.image, cut.image)
    frac = structure.frac_coords + unwrapped.offset
    middle = structure.frac_coords[b] + image - structure.frac_coords[a]
    ends = np.concatenate([a, b])
    points = np.concatenate([frac[a] + 0.5 * middle, frac[b] - 0.5 * middle])
    ids = [i for i in range(len(parts.roles)) if (part == i).any()]
    _limit(len(ids), config.max_blocks, "building blocks")
    if not any(parts.roles[i] == LINKER for i in ids):
        raise DecompositionError("no organic fragment joins two nodes", status="no_linker")
    blocks, origins, order = [], [], []
    for i in ids:
        atoms, own = np.flatnonzero(part == i), np.flatnonzero(part[ends] == i)
        _limit(len(atoms), config.max_block_atoms, f"atoms in a {parts.roles[i]}")
        _limit(len(own), config.max_block_connections, f"connection points of a {parts.roles[i]}")
        origin = points[own].mean(axis=0)
        within = np.flatnonzero((part[bonds.first] == i) & (part[bonds.second] == i))
        inner = np.stack([bonds.first[within], bonds.second[within]], axis=1)
        blocks.append(
            BuildingBlock(
                atomic_numbers=numbers[atoms],
                cart_coords=(frac[atoms] - origin) @ structure.lattice,
                bonds=np.searchsorted(atoms, inner),
                connection_points=(points[own] - origin) @ structure.lattice,
                connection_atoms=np.searchsorted(atoms, ends[own]),
                role=parts.roles[i],
            )
        )
        origins.append(origin)
        order.append(own)
    return _joined(
        structure, blocks, np.array(origins), np.concatenate(order), points, ids, part[ends], parts, dimension
    )


def _joined(
    structure: Structure,
    blocks: list[BuildingBlock],
    origins: np.ndarray,
    order: np.ndarray,
    points: np.ndarray,
    ids: list[int],
    part_of_end: np.ndarray,
    parts: Parts,
    dimension: int,
) -> Framework:
    """Number the connection points block by block and find the cells in which paired ones meet."""
    half = len(order) // 2
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    pairs = np.stack([place[:half], place[half:]], axis=1)
    coords = origins - np.floor(origins)
    coords[coords > 1 - 1e-12] = 0.0
    cell = np.rint(origins - coords).astype(np.int64)
    block = np.searchsorted(np.array(ids), part_of_end)
    moved = points - cell[block]
    pair_image = np.rint(moved[:half] - moved[half:]).astype(np.int64)
    removed = tuple(RemovedSpecies(f, n, kind) for (f, kind), n in sorted(Counter(parts.removed).items()))
    return Framework(
        structure.lattice, coords, tuple(blocks), pairs, pair_image, dimension=dimension, removed_solvent=removed
    )
