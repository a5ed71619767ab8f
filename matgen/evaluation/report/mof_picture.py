"""A framework as two still pictures: its building blocks, each whole, and the coarse net of their centres."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matgen.crystal.structure import Structure
from matgen.evaluation.report.picture import Ball, Stick, atom_fill, color_fill, drawn_radii, paint, upright
from matgen.evaluation.report.symbols import element_color
from matgen.mof.bonds import Bonds
from matgen.mof.fragments import hill_formula
from matgen.mof.metals import IS_METAL

MAX_ATOMS = 900
"""Of a larger cell only the atoms that are no hydrogens are drawn."""
_LINKERS = ("#4f9d8f", "#7d8fb3", "#b08a5b", "#9a76b0", "#6f9a52", "#b0707f")
_UNKNOWN_NODE = "#8a94a0"
_FACE = 1e-3


@dataclass(frozen=True, eq=False)
class CoarseNet:
    """Block centres and what joins them.

    centres: fractional, [K, 3]. is_metal: of each block. formulas: of each, "" where not known. colors: #rrggbb. edges:
    pairs of blocks, each once. images: the cell of the second, [E, 3]. sizes: drawn radius, Å.
    """

    centres: np.ndarray
    is_metal: np.ndarray
    formulas: tuple[str, ...]
    colors: tuple[str, ...]
    sizes: np.ndarray
    edges: np.ndarray
    images: np.ndarray


@dataclass(frozen=True, eq=False)
class WholeBlocks:
    """A framework whose blocks are not cut by the faces of the cell: coordinates may lie outside of it."""

    structure: Structure
    bonds: Bonds
    net: CoarseNet


def whole_blocks(structure: Structure, bonds: Bonds, block_of_atom: np.ndarray, is_metal: np.ndarray) -> WholeBlocks:
    """Move atoms by whole cells until each block is in one piece with its centre in the cell.

    Args:
        structure: atoms, with bonds.
        bonds: of all atoms.
        block_of_atom: int [n].
        is_metal: of each block; False takes a block that holds a metal for one all the same.
    """
    inner = block_of_atom[bonds.first] == block_of_atom[bonds.second]
    shift = _joined(len(block_of_atom), bonds[inner])
    coords = structure.frac_coords + shift
    count = int(block_of_atom.max()) + 1
    weight = np.bincount(block_of_atom, minlength=count)[:, None]
    centres = np.stack([np.bincount(block_of_atom, coords[:, k], count) for k in range(3)], axis=1) / weight
    home = -np.floor(centres + _FACE).astype(np.int64)
    shift, coords, centres = shift + home[block_of_atom], coords + home[block_of_atom], centres + home
    image = bonds.image + shift[bonds.first] - shift[bonds.second]
    moved = Structure(structure.lattice, coords, structure.atomic_numbers)
    blocks = [structure.atomic_numbers[block_of_atom == k] for k in range(count)]
    ends = np.stack([block_of_atom[bonds.first[~inner]], block_of_atom[bonds.second[~inner]]], axis=1)
    joins = np.unique(np.concatenate([ends, image[~inner]], axis=1), axis=0)
    net = make_net(centres, np.asarray(is_metal, dtype=bool), blocks, joins[:, :2], joins[:, 2:])
    return WholeBlocks(moved, Bonds(bonds.first, bonds.second, image), net)


def _joined(count: int, bonds: Bonds) -> np.ndarray:
    """Whole cells to move each atom by, so that its bonds do not cross a face; int [n, 3]."""
    neighbours: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
    for i, j, image in zip(bonds.first.tolist(), bonds.second.tolist(), bonds.image, strict=True):
        neighbours[i].append((j, image))
        neighbours[j].append((i, -image))
    shift, seen = np.zeros((count, 3), dtype=np.int64), np.zeros(count, dtype=bool)
    for start in range(count):
        queue = deque([] if seen[start] else [start])
        seen[start] = True
        while queue:
            i = queue.popleft()
            for j, image in neighbours[i]:
                if not seen[j]:
                    seen[j] = True
                    shift[j] = shift[i] + image
                    queue.append(j)
    return shift


def make_net(
    centres: np.ndarray, is_metal: np.ndarray, blocks: Sequence[np.ndarray], edges: np.ndarray, images: np.ndarray
) -> CoarseNet:
    """A net with colours: a node has that of its metal, linkers of one formula have one colour.

    Args:
        centres: fractional.
        is_metal: of each block.
        blocks: atomic numbers of each; empty where they are not known.
        edges, images: as in `CoarseNet`.
    """
    formulas = tuple(hill_formula(numbers) if len(numbers) else "" for numbers in blocks)
    kinds = {formula: i for i, formula in enumerate(dict.fromkeys(f for f, m in zip(formulas, is_metal) if not m))}
    colors, sizes = [], []
    for numbers, formula, metal in zip(blocks, formulas, is_metal, strict=True):
        metals = numbers[IS_METAL[numbers]] if len(numbers) else np.zeros(0, dtype=np.int64)
        node = bool(metal) or len(metals) > 0
        known = element_color(int(metals[0])) if len(metals) else _UNKNOWN_NODE
        colors.append(known if node else _LINKERS[kinds[formula] % len(_LINKERS)])
        sizes.append(1.5 if node else 0.95)
    return CoarseNet(centres, np.asarray(is_metal), formulas, tuple(colors), np.array(sizes), edges, images)


def draw_atoms(whole: WholeBlocks, label: str) -> str:
    """Atoms and bonds as SVG; bonds that leave the cell are drawn half.

    Args:
        whole: the framework.
        label: escaped text for those who cannot see it.
    """
    numbers, bonds = np.asarray(whole.structure.atomic_numbers), whole.bonds
    lattice = upright(np.asarray(whole.structure.lattice, dtype=np.float64))
    positions, radii = whole.structure.frac_coords @ lattice, drawn_radii(numbers)
    shown = (numbers != 1) | (len(numbers) <= MAX_ATOMS)
    balls = [Ball(positions[i], float(radii[i]), atom_fill(numbers[i])) for i in np.flatnonzero(shown)]
    sticks = []
    for i, j, image in zip(bonds.first, bonds.second, bonds.image, strict=True):
        if not (shown[i] and shown[j]):
            continue
        away = image @ lattice
        along = positions[j] + away - positions[i]
        if not image.any():
            sticks.append(Stick(positions[i], positions[j], "bond"))
            continue
        sticks.append(Stick(positions[i], positions[i] + along / 2, "bond"))
        sticks.append(Stick(positions[j], positions[j] - along / 2, "bond"))
    return paint(lattice, balls, sticks, label)


def draw_net(lattice: np.ndarray, net: CoarseNet, label: str) -> str:
    """Block centres and edges as SVG; an edge that leaves the cell ends at its middle.

    Args:
        lattice: rows in Å.
        net: what to draw.
        label: escaped text for those who cannot see it.
    """
    lattice = upright(np.asarray(lattice, dtype=np.float64))
    positions = net.centres @ lattice
    scale = min(1.0, float(np.abs(np.linalg.det(lattice)) / max(len(positions), 1)) ** (1 / 3) / 5.0)
    balls = [
        Ball(place, scale * float(size), color_fill(color))
        for place, size, color in zip(positions, net.sizes, net.colors, strict=True)
    ]
    sticks = []
    for (i, j), image in zip(net.edges, net.images, strict=True):
        along = positions[j] + image @ lattice - positions[i]
        if not image.any():
            sticks.append(Stick(positions[i], positions[j], "link"))
            continue
        sticks.append(Stick(positions[i], positions[i] + along / 2, "link"))
        sticks.append(Stick(positions[j], positions[j] - along / 2, "link"))
    return paint(lattice, balls, sticks, label)
