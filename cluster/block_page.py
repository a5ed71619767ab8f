"""One page about a decomposition: what became of the structures, and pictures of the commonest blocks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from matgen.crystal.elements import COVALENT_RADII
from matgen.errors import StageError
from matgen.evaluation.report.svg import esc, percent
from matgen.evaluation.report.symbols import element_color
from matgen.mof.block_library import BlockLibrary
from matgen.mof.building_block import BuildingBlock

MAX_CARDS = 60
"""Blocks of each role that are drawn."""
_TITLES = {"metal_node": "Metal nodes", "linker": "Linkers", "node_bridge": "Node bridges"}
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#1d2530}
table{border-collapse:collapse}td,th{padding:.15em 1.2em .15em 0;text-align:left}td.n{text-align:right}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(170px,1fr));gap:12px}
figure{margin:0;border:1px solid #d8dee6;border-radius:8px;padding:8px}figcaption{font-size:13px;overflow-wrap:anywhere}
svg{width:100%;height:150px}small{color:#5a6675}"""


def draw_block(block: BuildingBlock) -> str:
    """A block as SVG, seen along its thinnest direction; crosses are connection points.

    Args:
        block: any block.

    Returns:
        the SVG element.
    """
    atoms, points = _projected(block)
    everything = np.concatenate([atoms, points])[:, :2]
    low, high = everything.min(axis=0) - 1.2, everything.max(axis=0) + 1.2
    box = f"{low[0]:.2f} {low[1]:.2f} {high[0] - low[0]:.2f} {high[1] - low[1]:.2f}"
    parts = [f'<svg viewBox="{box}" role="img">']
    lines = [(atoms[i], atoms[j], "#8a94a0") for i, j in block.bonds.tolist()]
    lines += [(atoms[i], point, "#d1495b") for i, point in zip(block.connection_atoms.tolist(), points, strict=True)]
    for (x1, y1, _), (x2, y2, _), color in lines:
        ends = f'x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"'
        parts.append(f'<line {ends} stroke="{color}" stroke-width=".16"/>')
    for index in np.argsort(atoms[:, 2]).tolist():
        number = int(block.atomic_numbers[index])
        radius = 0.42 * COVALENT_RADII[min(number, len(COVALENT_RADII) - 1)]
        place = f'cx="{atoms[index, 0]:.2f}" cy="{atoms[index, 1]:.2f}" r="{radius:.2f}"'
        parts.append(f'<circle {place} fill="{element_color(number)}" stroke="#333" stroke-width=".04"/>')
    for x, y, _ in points:
        cross = f"M{x - 0.22:.2f} {y - 0.22:.2f}l.44 .44m0-.44l-.44 .44"
        parts.append(f'<path d="{cross}" stroke="#d1495b" stroke-width=".12"/>')
    return "".join([*parts, "</svg>"])


def _projected(block: BuildingBlock) -> tuple[np.ndarray, np.ndarray]:
    """Atoms and connection points in the frame of the block's inertia, slightly turned so that little is hidden."""
    both = np.concatenate([block.cart_coords, block.connection_points])
    _, _, axes = np.linalg.svd(both - both.mean(axis=0), full_matrices=True)
    turn, tilt = np.radians(12.0), np.radians(16.0)
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    view = axes.T @ about_y @ about_x
    return block.cart_coords @ view, block.connection_points @ view


def write_page(
    path: Path, name: str, status: Mapping[str, int], rows: Sequence[Mapping[str, Any]], library: BlockLibrary
) -> None:
    """Write the page; it needs no other file.

    Args:
        path: the HTML file.
        name: of what was decomposed.
        status: structures by status.
        rows: of the table of blocks, the commonest first.
        library: holds their shapes.

    Raises:
        StageError: the file cannot be written.
    """
    total = sum(status.values())
    table = "".join(
        f"<tr><td>{esc(word)}</td><td class=n>{count}</td><td class=n>{percent(count / total)}</td></tr>"
        for word, count in status.items()
    )
    body = [f"<h1>Building blocks of {esc(name)}</h1><table><tr><th>status<th>structures<th></tr>{table}</table>"]
    for role, title in _TITLES.items():
        chosen = [row for row in rows if row["role"] == role]
        cards = "".join(_card(row, library) for row in chosen[:MAX_CARDS])
        shown = f"the {min(len(chosen), MAX_CARDS)} commonest of {len(chosen)}"
        body.append(f"<h2>{title} <small>{shown}</small></h2><div class=cards>{cards}</div>")
    head = f'<!doctype html><meta charset="utf-8"><title>{esc(name)}: building blocks</title><style>{_STYLE}</style>'
    try:
        path.write_text(head + "".join(body), encoding="utf-8")
    except OSError as error:
        raise StageError(f"cannot write {path}: {error.strerror or error}") from error


def _card(row: Mapping[str, Any], library: BlockLibrary) -> str:
    block = library.block(int(library.find(row["identity"])[0]))
    text = (
        f"<b>{esc(row['formula'])}</b>, {row['num_connections']} connections<br>in {row['num_frameworks']} frameworks"
    )
    detail = f"<br><small>{row['num_conformers']} shapes; e.g. {esc(row['example'])}</small>"
    return f'<figure title="{esc(row["smiles"])}">{draw_block(block)}<figcaption>{text}{detail}</figcaption></figure>'
