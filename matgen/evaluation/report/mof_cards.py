"""The words on a framework's card and in the viewer beside it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from matgen.evaluation.mof_checks import CHECKS
from matgen.evaluation.report.mof_picture import CoarseNet, WholeBlocks
from matgen.evaluation.report.svg import esc, number
from matgen.evaluation.report.symbols import formula_html
from matgen.evaluation.report.viewer import cell_entry, cell_facts

_PORES = (
    ("largest_cavity_diameter", "LCD", "Å"),
    ("pore_limiting_diameter", "PLD", "Å"),
    ("accessible_surface_area", "Surface", "m²/g"),
    ("void_fraction", "Void fraction", ""),
    ("density", "Density", "g/cm³"),
)


@dataclass(frozen=True)
class Badges:
    """How far a framework came, and its row of scores (empty where it has none)."""

    reached: str
    scores: Mapping[str, Any]

    @property
    def failed_checks(self) -> list[str]:
        """Checks that it failed."""
        return [name.replace("_", " ") for name in CHECKS if self.scores.get(f"check_{name}") == "failed"]

    @property
    def html(self) -> str:
        """Small labels."""
        said = [self.reached]
        if self.scores.get("identity") and self.scores.get("novel") is not None:
            said.append("novel" if self.scores["novel"] else "known")
        kind = " good" if self.reached == "valid" else ""
        labels = f'<span class="badge{kind}">{esc(said[0])}</span>'
        return labels + "".join(f'<span class="badge">{esc(text)}</span>' for text in said[1:])

    def figures(self) -> list[tuple[str, str]]:
        """Pores and density, as far as they were measured."""
        values = ((words, self.scores.get(name), unit) for name, words, unit in _PORES)
        return [
            (words, f"{number(float(value))} {unit}".strip())
            for words, value, unit in values
            if value is not None and np.isfinite(value)
        ]


def blocks_text(net: CoarseNet) -> str:
    """Blocks by role and formula, as HTML."""
    counts = Counter(zip(net.is_metal.tolist(), net.formulas, net.colors, strict=True))
    parts = []
    for (metal, formula, color), count in sorted(counts.items(), key=lambda item: (not item[0][0], item[0][1])):
        words = formula_html(formula) if formula else ("metal node" if metal else "linker")
        parts.append(f'<span class="atom"><i style="background:{color}"></i>{count}&nbsp;×&nbsp;{words}</span>')
    return " ".join(parts)


def card_html(
    row: Mapping[str, Any], whole: WholeBlocks, badges: Badges, index: int, pictures: tuple[str, str], link: str
) -> str:
    """A card: both pictures, formula, blocks, figures, CIF."""
    structure = whole.structure
    name = esc(structure.formula)
    coarse, atoms = pictures
    figures = " · ".join(f"{esc(words)}&nbsp;{esc(text)}" for words, text in badges.figures())
    failed = badges.failed_checks
    checks = f'<p class="reason">failed: {esc(", ".join(failed))}</p>' if failed else ""
    return (
        '<article class="crystal framework"><div class="two">'
        f'<button class="picture" data-index="{index}" data-view="blocks" aria-label="3-D view of the blocks of '
        f'{name}">{coarse}</button><button class="picture" data-index="{index}" aria-label="3-D view of {name}">'
        f"{atoms}</button>"
        f'</div><h4>{formula_html(structure.formula)}</h4><p class="badges">{badges.html}</p>'
        f'<p class="sites blocks">{blocks_text(whole.net)}</p><p class="figures">{figures}</p>{checks}'
        f'<p class="foot"><span class="faint">#{row["sample_id"]} · {structure.num_atoms} atoms · '
        f"{len(whole.net.centres)} blocks</span>"
        f'<a download="{name}-{row["sample_id"]:08d}.cif" href="{link}">CIF</a></p></article>'
    )


def failed_html(row: Mapping[str, Any], picture: str, blocks: str) -> str:
    """A card of a sample that was not assembled."""
    return (
        f'<article class="crystal failed"><div class="picture">{picture}</div><h4>{esc(row["status"])}</h4>'
        f'<p class="sites blocks">{blocks}</p><p class="reason">{esc(row.get("reason") or "")}</p>'
        f'<p class="foot"><span class="faint">#{row["sample_id"]} · {number(row.get("num_blocks"))} blocks</span></p>'
        "</article>"
    )


def viewer_entry(row: Mapping[str, Any], whole: WholeBlocks, badges: Badges) -> dict[str, Any]:
    """What the 3-D viewer needs of a framework: atoms, bonds, and the net of its blocks."""
    structure, net, bonds = whole.structure, whole.net, whole.bonds
    facts = [["Blocks", blocks_text(net)], ["Atoms in the cell", str(structure.num_atoms)]]
    facts += cell_facts(structure)
    facts += [[esc(words), esc(text)] for words, text in badges.figures()]
    facts.append(["State", badges.html])
    if badges.failed_checks:
        facts.append(["Checks failed", esc(", ".join(badges.failed_checks))])
    if row.get("energy") is not None:
        facts.append(["UFF energy", f"{row['energy']:.1f} kcal/mol a cell"])
    facts.append(["sample_id, seed", f"{row['sample_id']}, {row.get('seed')}"])
    pairs = np.concatenate([np.stack([bonds.first, bonds.second], axis=1), bonds.image], axis=1)
    return {
        **cell_entry(structure, facts),
        "bonds": pairs.tolist(),
        "blocks": {
            "coords": np.round(net.centres, 4).tolist(),
            "colors": list(net.colors),
            "radii": net.sizes.tolist(),
            "bonds": np.concatenate([net.edges, net.images], axis=1).tolist(),
        },
    }
