"""A structure as a still picture: atoms and bonds of one cell, drawn from back to front."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product

import numpy as np

from matgen.crystal.elements import COVALENT_RADII, SYMBOLS
from matgen.crystal.structure import Structure
from matgen.evaluation.report.symbols import element_color

ATOM_SCALE = 0.42
"""Drawn radius over covalent radius."""
BOND_TOLERANCE = 1.18
"""Atoms nearer than this times the sum of their covalent radii are joined."""
MAX_ATOMS = 220
"""A cell that shows more atoms than this, images on its faces included, is drawn without images and bonds."""
_FACE = 0.02
_SIZE = 200.0
_TURN, _TILT = np.radians(-24.0), np.radians(14.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """lattice: rows in Å, c upwards. positions: Å, [n, 3]. numbers: Z, [n]. bonds: pairs of atoms, [b, 2]."""

    lattice: np.ndarray
    positions: np.ndarray
    numbers: np.ndarray
    bonds: np.ndarray


def upright(lattice: np.ndarray) -> np.ndarray:
    """The same cell turned so that c points up and a lies in the plane of the picture."""
    lengths = np.linalg.norm(lattice, axis=1)
    metric = lattice @ lattice.T
    up = metric[2] / lengths[2]
    a = np.array([np.sqrt(max(metric[0, 0] - up[0] ** 2, 1e-12)), 0.0, up[0]])
    b_x = (metric[0, 1] - up[0] * up[1]) / a[0]
    sign = 1.0 if np.linalg.det(lattice) >= 0 else -1.0
    b = np.array([b_x, sign * np.sqrt(max(metric[1, 1] - up[1] ** 2 - b_x**2, 1e-12)), up[1]])
    return np.stack([a, b, np.array([0.0, 0.0, lengths[2]])])


def make_scene(structure: Structure) -> Scene:
    """One cell, with the images of atoms on its faces."""
    coords = np.asarray(structure.frac_coords, dtype=np.float64) % 1.0
    coords = np.where(coords > 1 - _FACE, coords - 1.0, coords)
    numbers = np.asarray(structure.atomic_numbers, dtype=np.int64)
    places, owners = [coords], [np.arange(len(coords))]
    for shift in product((0, 1), repeat=3):
        if any(shift):
            on_face = ((np.abs(coords) < _FACE) | (np.array(shift) == 0)).all(1)
            places.append(coords[on_face] + shift)
            owners.append(np.flatnonzero(on_face))
    lattice = upright(np.asarray(structure.lattice, dtype=np.float64))
    if sum(map(len, places)) > MAX_ATOMS:
        return Scene(lattice, coords @ lattice, numbers, np.zeros((0, 2), dtype=np.int64))
    positions, shown = np.concatenate(places) @ lattice, numbers[np.concatenate(owners)]
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    reach = BOND_TOLERANCE * (COVALENT_RADII[shown][:, None] + COVALENT_RADII[shown][None])
    bonds = np.argwhere(np.triu((distance < reach) & (distance > 0.4), 1))
    return Scene(lattice, positions, shown, bonds)


def _view() -> np.ndarray:
    """Rows: right, up and towards the eye."""
    turn = np.array([[np.cos(_TURN), -np.sin(_TURN), 0], [np.sin(_TURN), np.cos(_TURN), 0], [0, 0, 1]])
    tilt = np.array(
        [[1, 0, 0], [0, np.cos(_TILT), -np.sin(_TILT)], [0, np.sin(_TILT), np.cos(_TILT)]],
    )
    screen = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    return np.asarray(screen @ tilt @ turn)


@dataclass(frozen=True)
class Ball:
    """A circle: centre in Å, radius in Å, and an SVG paint."""

    centre: np.ndarray
    radius: float
    fill: str


@dataclass(frozen=True)
class Stick:
    """A line between two places in Å; `kind` is its class."""

    start: np.ndarray
    end: np.ndarray
    kind: str


def draw(scene: Scene, label: str) -> str:
    """The picture as SVG; the colours of atoms are the gradients of `gradients`.

    Args:
        scene: what to draw.
        label: escaped text for those who cannot see it.
    """
    radii = drawn_radii(scene.numbers)
    balls = [Ball(*ball) for ball in zip(scene.positions, radii.tolist(), map(atom_fill, scene.numbers))]
    sticks = []
    for i, j in scene.bonds:
        along = scene.positions[j] - scene.positions[i]
        along = along / max(float(np.linalg.norm(along)), 1e-9)
        start, end = scene.positions[i] + 0.8 * radii[i] * along, scene.positions[j] - 0.8 * radii[j] * along
        sticks.append(Stick(start, end, "bond"))
    return paint(scene.lattice, balls, sticks, label)


def drawn_radii(numbers: np.ndarray) -> np.ndarray:
    """Å, of atoms in a picture."""
    return ATOM_SCALE * np.asarray(COVALENT_RADII[np.minimum(numbers, len(COVALENT_RADII) - 1)])


def atom_fill(number: int) -> str:
    """Paint of an element, one of those that `gradients` defines."""
    return f"url(#e{int(number)})"


def paint(lattice: np.ndarray, balls: Sequence[Ball], sticks: Sequence[Stick], label: str) -> str:
    """A cell, balls and sticks as SVG, painted from back to front.

    Args:
        lattice: rows in Å, c upwards.
        balls, sticks: in the same frame.
        label: escaped text for those who cannot see it.
    """
    view = _view()
    corners = np.array(list(product((0, 1), repeat=3)), dtype=np.float64) @ lattice
    centre = corners.mean(0)
    cell = (corners - centre) @ view.T
    places = np.array([ball.centre for ball in balls], dtype=np.float64).reshape(-1, 3)
    places, radii = (places - centre) @ view.T, np.array([ball.radius for ball in balls])
    both = np.concatenate([cell[:, :2], places[:, :2] - radii[:, None], places[:, :2] + radii[:, None]])
    low, high = both.min(0), both.max(0)
    zoom = 0.94 * _SIZE / max(float((high - low).max()), 1e-6)
    offset = _SIZE / 2 - zoom * (low + high) / 2 * np.array([1, -1])
    items = _edges(cell, zoom, offset)
    for stick in sticks:
        start, end = (stick.start - centre) @ view.T, (stick.end - centre) @ view.T
        items.append(_segment(start, end, stick.kind, zoom, offset))
    for position, ball in zip(places, balls, strict=True):
        x, y = _place(position, zoom, offset)
        circle = f'<circle cx="{x}" cy="{y}" r="{zoom * ball.radius:.1f}" fill="{ball.fill}"/>'
        items.append((float(position[2]), circle))
    body = "".join(text for _, text in sorted(items, key=lambda item: item[0]))
    box = f"0 0 {_SIZE:g} {_SIZE:g}"
    style = f"--bond-width:{min(max(0.15 * zoom, 0.5), 4.5):.1f}"
    return f'<svg class="crystal-picture" style="{style}" viewBox="{box}" role="img" aria-label="{label}">{body}</svg>'


def _place(position: np.ndarray, zoom: float, offset: np.ndarray) -> tuple[str, str]:
    return f"{zoom * position[0] + offset[0]:.1f}", f"{-zoom * position[1] + offset[1]:.1f}"


def _segment(a: np.ndarray, b: np.ndarray, kind: str, zoom: float, offset: np.ndarray) -> tuple[float, str]:
    (x1, y1), (x2, y2) = _place(a, zoom, offset), _place(b, zoom, offset)
    return float((a[2] + b[2]) / 2), f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _edges(cell: np.ndarray, zoom: float, offset: np.ndarray) -> list[tuple[float, str]]:
    """Edges of the cell, cut in pieces so that atoms can stand before and behind them."""
    items = []
    for i, j in combinations(range(8), 2):
        if (i ^ j).bit_count() == 1:
            points = [cell[i] + t * (cell[j] - cell[i]) for t in np.linspace(0, 1, 4)]
            items += [_segment(a, b, "edge", zoom, offset) for a, b in pairwise(points)]
    return items


def color_fill(color: str) -> str:
    """Paint of a colour #rrggbb, one of those that `gradients` defines."""
    return f"url(#c{color.removeprefix('#')})"


def gradients(numbers: Collection[int], colors: Collection[str] = ()) -> str:
    """Definitions that pictures refer to, one for each element and each other colour on the page."""
    named = {f"e{z}": element_color(z) for z in sorted(numbers)}
    named |= {f"c{color.removeprefix('#')}": color for color in sorted(colors)}
    stops = []
    for name, color in named.items():
        stops.append(
            f'<radialGradient id="{name}" cx=".36" cy=".32" r=".78">'
            f'<stop offset="0" stop-color="{_mix(color, 255, 0.62)}"/><stop offset=".45" stop-color="{color}"/>'
            f'<stop offset="1" stop-color="{_mix(color, 0, 0.42)}"/></radialGradient>'
        )
    return f'<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>{"".join(stops)}</defs></svg>'


def _mix(color: str, towards: int, share: float) -> str:
    channels = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + share * (towards - c)):02x}" for c in channels)


def element_key(numbers: np.ndarray) -> str:
    """Symbols of a crystal's elements beside their colours, as HTML."""
    items = (
        f'<span class="atom"><i style="background:{element_color(int(z))}"></i>{SYMBOLS[int(z)]}</span>'
        for z in np.unique(numbers)
    )
    return "".join(items)
