"""Frameworks to look at: chosen by a stated rule, the coarse net beside the atoms, with CIF; and some failures."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from matgen.crystal.cif import write_cif
from matgen.crystal.structure import Structure
from matgen.evaluation.report.gallery import viewer_data
from matgen.evaluation.report.mof_cards import Badges, blocks_text, card_html, failed_html, viewer_entry
from matgen.evaluation.report.mof_picture import CoarseNet, WholeBlocks, draw_atoms, draw_net, make_net, whole_blocks
from matgen.evaluation.report.picture import gradients
from matgen.evaluation.report.reading import Population, RunContents, column, read_rows
from matgen.evaluation.report.shell import ReportConfig
from matgen.evaluation.report.svg import esc
from matgen.mof.bonds import Bonds

_STAGES = ("valid", "relaxed, not valid", "relaxed", "assembled", "assembled with clashes")
_RULE = (
    "valid ones first, then relaxed ones, then those that were assembled only; of each those with the smallest "
    "sample_id; one of each identity"
)


@dataclass(eq=False)
class _Shown:
    """What the cards of a page need once: the viewer's entries, elements and colours."""

    viewer: list[dict[str, Any]] = field(default_factory=list)
    elements: set[int] = field(default_factory=set)
    colors: set[str] = field(default_factory=set)


def frameworks_html(contents: RunContents, config: ReportConfig) -> tuple[str, str]:
    """The galleries, and the viewer's data."""
    shown, parts = _Shown(), []
    for population in contents.populations:
        if len(contents.populations) > 1:
            parts.append(f"<h3>{esc(population.name)}</h3>")
        parts.append(_gallery(population, config.num_frameworks, shown))
        strip = _failures(population, config.num_failures, shown)
        if strip:
            note = "Pictures are of the block centres as drawn: a grey ball for a metal node, a small one for a linker."
            parts.append(f'<h4>The first that failed</h4><p class="note">{note}</p><div class="gallery">{strip}</div>')
    if not contents.populations:
        parts.append('<p class="notrun">not run: no samples were drawn</p>')
    return gradients(shown.elements, shown.colors) + "".join(parts), viewer_data(shown.viewer, shown.elements)


def choose_frameworks(population: Population, count: int) -> list[tuple[int, str]]:
    """Pick (sample_id, how far it came) for the gallery, by the rule that the page states."""
    reached = _reached(population)
    names, ids = column(population.scores, "identity"), column(population.scores, "sample_id")
    identity = {int(i): str(name) for i, name in zip(ids, names)} if ids is not None and names is not None else {}
    chosen: list[tuple[int, str]] = []
    once: set[str] = set()
    for sample_id in sorted(reached, key=lambda i: (_STAGES.index(reached[i]), i)):
        name = identity.get(sample_id, "")
        if len(chosen) == count or name in once:
            continue
        once |= {name} if name else set()
        chosen.append((sample_id, reached[sample_id]))
    return chosen


def _reached(population: Population) -> dict[int, str]:
    """How far each framework that was assembled came."""
    ids, status = column(population.structures, "sample_id"), column(population.structures, "status")
    if ids is None or status is None:
        return {}
    words = {"ok": "assembled", "clash": "assembled with clashes"}
    reached = {int(i): words[str(word)] for i, word in zip(ids, status) if word in words}
    relaxed, outcome = column(population.relaxed, "sample_id"), column(population.relaxed, "relax_status")
    if relaxed is not None and outcome is not None:
        reached |= {int(i): "relaxed" for i, word in zip(relaxed, outcome) if word == "ok" and int(i) in reached}
    scored, valid = column(population.scores, "sample_id"), column(population.scores, "mof_valid")
    if scored is not None and valid is not None:
        for i, word in zip(scored.tolist(), valid.tolist()):
            if word == "passed" and (reached.get(i) == "relaxed" or (relaxed is None and i in reached)):
                reached[i] = "valid"
            elif word == "failed" and reached.get(i) == "relaxed":
                reached[i] = "relaxed, not valid"
    return reached


def _gallery(population: Population, count: int, shown: _Shown) -> str:
    chosen = choose_frameworks(population, count)
    if not chosen:
        why = "no sample was assembled" if population.structures is not None else "the stage decode was not run"
        return f'<p class="notrun">no framework to show: {why}</p>'
    ids = [sample_id for sample_id, _ in chosen]
    rows = read_rows(population.directory / "structures", ids)
    after = read_rows(population.directory / "relaxed", ids) if population.relaxed is not None else {}
    scores = _score_rows(population, set(ids))
    cards = []
    for sample_id, reached in chosen:
        row = {**rows[sample_id], **{k: v for k, v in after.get(sample_id, {}).items() if v is not None}}
        cards.append(_card(row, Badges(reached, scores.get(sample_id, {})), shown))
    note = (
        f"Shown: {_RULE}. Left: centres of the building blocks and what joins them, large balls "
        "for metal nodes in the colour of their metal, small ones for linkers. Right: the atoms, blocks in one piece. "
        "Click a picture to turn it."
    )
    return f'<p class="note">{note}</p><div class="gallery frameworks">{"".join(cards)}</div>'


def _score_rows(population: Population, ids: set[int]) -> dict[int, dict[str, Any]]:
    if population.scores is None:
        return {}
    numbers = population.scores["sample_id"].to_pylist()
    chosen = [i for i, sample_id in enumerate(numbers) if sample_id in ids]
    return {int(row["sample_id"]): row for row in population.scores.take(chosen).to_pylist()}


def shown_framework(row: Mapping[str, Any]) -> WholeBlocks:
    """The relaxed framework of a row where there is one, else the assembled one, its blocks in one piece."""
    relaxed = row.get("relaxed_lattice") is not None
    structure = Structure(
        np.asarray(row["relaxed_lattice" if relaxed else "lattice"], dtype=np.float64).reshape(3, 3),
        np.asarray(row["relaxed_frac_coords" if relaxed else "structure_frac_coords"], dtype=float).reshape(-1, 3),
        np.asarray(row["structure_atomic_numbers"], dtype=np.int64),
    )
    first, second = np.asarray(row["bonds"], dtype=np.int64).reshape(-1, 2).T
    bonds = Bonds(first, second, np.asarray(row["bond_images"], dtype=np.int64).reshape(-1, 3))
    return whole_blocks(structure, bonds, np.asarray(row["block_of_atom"], dtype=np.int64), row["is_metal"])


def _card(row: Mapping[str, Any], badges: Badges, shown: _Shown) -> str:
    whole = shown_framework(row)
    name = esc(whole.structure.formula)
    shown.elements |= {int(z) for z in whole.structure.atomic_numbers}
    shown.colors |= set(whole.net.colors)
    index = len(shown.viewer)
    shown.viewer.append(viewer_entry(row, whole, badges))
    pictures = (
        draw_net(whole.structure.lattice, whole.net, f"blocks of {name}"),
        draw_atoms(whole, f"atoms of {name}"),
    )
    home = Structure(whole.structure.lattice, whole.structure.frac_coords % 1.0, whole.structure.atomic_numbers)
    properties = {key: row.get(key) for key in ("seed", "energy")}
    cif = write_cif(home, None, name=f"{row['sample_id']:08d}", properties=properties)
    link = f"data:chemical/x-cif;base64,{base64.b64encode(cif.encode()).decode()}"
    return card_html(row, whole, badges, index, pictures, link)


def _failures(population: Population, count: int, shown: _Shown) -> str:
    """Cards of the first samples that were not assembled."""
    if population.structures is None:
        return ""
    ids, status = column(population.structures, "sample_id"), column(population.structures, "status")
    assert ids is not None and status is not None
    chosen = [int(i) for i in ids[~np.isin(status, ["ok", "clash"])][:count]]
    rows = read_rows(population.directory / "structures", chosen)
    cards = []
    for row in (rows[i] for i in chosen):
        net, picture = _drawn_net(row), ""
        if net is not None:
            shown.colors |= set(net.colors)
            picture = draw_net(_lattice(row), net, esc(f"failed sample {row['sample_id']}"))
        cards.append(failed_html(row, picture, blocks_text(net) if net is not None else ""))
    return "".join(cards)


def _lattice(row: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(row["coarse_lattice"], dtype=np.float64).reshape(3, 3)


def _drawn_net(row: Mapping[str, Any]) -> CoarseNet | None:
    """Block centres as they were sampled; None where they are not finite."""
    if row.get("coarse_lattice") is None or not row.get("coarse_frac_coords"):
        return None
    centres = np.asarray(row["coarse_frac_coords"], dtype=np.float64).reshape(-1, 3)
    lattice = _lattice(row)
    if not (np.isfinite(lattice).all() and np.isfinite(centres).all() and np.abs(np.linalg.det(lattice)) > 1e-3):
        return None
    nothing = np.zeros((0, 3), dtype=np.int64)
    unknown = [np.zeros(0, dtype=np.int64)] * len(centres)
    return make_net(centres % 1.0, np.asarray(row["is_metal"], dtype=bool), unknown, nothing[:, :2], nothing)
