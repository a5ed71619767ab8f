"""Crystals to look at: chosen by a stated rule, each with a picture, its symmetry, and its CIF; and some failures."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from matgen.crystal.cif import CifSymmetry, write_cif
from matgen.crystal.elements import COVALENT_RADII, SYMBOLS
from matgen.crystal.structure import Structure
from matgen.evaluation.report.picture import draw, gradients, make_scene
from matgen.evaluation.report.reading import Population, column, read_rows
from matgen.evaluation.report.svg import esc, number
from matgen.evaluation.report.symbols import element_color, formula_html, space_group_html, space_group_text
from matgen.evaluation.report.viewer import cell_entry, cell_facts
from matgen.geometry.lattice import lattice_from_k


@dataclass(frozen=True, eq=False)
class Gallery:
    """html: the cards. viewer: what the 3-D viewer is given, one entry a card. elements: Z of all atoms shown."""

    html: str
    viewer: list[dict[str, Any]]
    elements: set[int]


def choose(population: Population, count: int) -> tuple[list[int], str]:
    """Pick sample_ids for the gallery, and say the rule in words."""
    table = population.scores if population.scores is not None else population.structures
    ids, status = column(table, "sample_id"), column(table, "status")
    if ids is None or status is None:
        return [], "there are no structures"
    good = status == "ok"
    valid = column(population.scores, "valid")
    component = column(population.scores, "component")
    known = {int(i) for i in _with_structure(population)}
    once: set[int] = set()
    chosen: list[int] = []
    energies = _energies(population)
    order = sorted(range(len(ids)), key=lambda i: (energies.get(int(ids[i]), np.inf), int(ids[i])))
    for i in order:
        sample_id = int(ids[i])
        if len(chosen) == count or not good[i] or sample_id not in known or (valid is not None and not valid[i]):
            continue
        if component is not None and component[i] >= 0:
            if int(component[i]) in once:
                continue
            once.add(int(component[i]))
        chosen.append(sample_id)
    what = "valid" if valid is not None else "decoded"
    unique = ", one of each set of duplicates" if component is not None else ""
    by = f"the {what} ones with the smallest sample_id"
    if energies:
        by = f"those with the lowest energy above hull first, then the {what} ones with the smallest sample_id"
    return chosen, f"{by}{unique}"


def _with_structure(population: Population) -> np.ndarray:
    ids, status = column(population.structures, "sample_id"), column(population.structures, "status")
    return ids[status == "ok"] if ids is not None and status is not None else np.zeros(0)


def _energies(population: Population) -> dict[int, float]:
    ids, energies = column(population.relaxed, "sample_id"), column(population.relaxed, "e_above_hull")
    if ids is None or energies is None:
        return {}
    return {int(i): float(e) for i, e in zip(ids, energies.astype(np.float64)) if np.isfinite(e)}


def make_gallery(population: Population, count: int, first_index: int) -> tuple[Gallery, str]:
    """Cards of the chosen crystals; `first_index` is the place of the first in the viewer's list."""
    chosen, rule = choose(population, count)
    rows = _rows(population, chosen)
    novel = _flags(population, "novel_train")
    cards: list[str] = []
    viewer: list[dict[str, Any]] = []
    elements: set[int] = set()
    for sample_id in chosen:
        row = rows.get(sample_id)
        if row is None:
            continue
        structure = _shown_structure(row)
        cards.append(_card(row, structure, first_index + len(viewer), novel.get(sample_id)))
        viewer.append(_viewer_entry(row, structure))
        elements |= {int(z) for z in structure.atomic_numbers}
    return Gallery("".join(cards), viewer, elements), rule


def _rows(population: Population, sample_ids: list[int]) -> dict[int, dict[str, Any]]:
    rows = read_rows(population.directory / "structures", sample_ids)
    relaxed = read_rows(population.directory / "relaxed", sample_ids) if population.relaxed is not None else {}
    return {i: {**row, **{k: v for k, v in relaxed.get(i, {}).items() if v is not None}} for i, row in rows.items()}


def _flags(population: Population, name: str) -> dict[int, bool]:
    ids, values = column(population.scores, "sample_id"), column(population.scores, name)
    return {} if ids is None or values is None else {int(i): bool(v) for i, v in zip(ids, values)}


def _shown_structure(row: Mapping[str, Any]) -> Structure:
    """The relaxed crystal of a row where there is one."""
    relaxed = row.get("relaxed_lattice") is not None
    return Structure(
        np.asarray(row["relaxed_lattice" if relaxed else "lattice"], dtype=np.float64).reshape(3, 3),
        np.asarray(row["relaxed_frac_coords" if relaxed else "structure_frac_coords"], dtype=float).reshape(-1, 3),
        np.asarray(row["structure_atomic_numbers"], dtype=np.int64),
    )


def _sites(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Element, multiplicity and letter of each orbit."""
    orbits = np.asarray(row["orbit_index"])
    numbers = np.asarray(row["structure_atomic_numbers"])
    first = [int(np.flatnonzero(orbits == i)[0]) for i in range(len(row["wyckoff_letters"]))]
    return [
        {"symbol": SYMBOLS[int(numbers[i])], "site": f"{multiplicity}{letter}"}
        for i, letter, multiplicity in zip(first, row["wyckoff_letters"], row["multiplicities"], strict=True)
    ]


def _cif(row: Mapping[str, Any], structure: Structure) -> str:
    symmetry = CifSymmetry.from_orbits(
        structure,
        int(row["space_group_number"]),
        row["orbit_index"],
        row["wyckoff_letters"],
        row["multiplicities"],
    )
    properties = {name: row.get(name) for name in ("seed", "energy_per_atom", "e_above_hull")}
    return write_cif(structure, symmetry, name=f"{row['sample_id']:08d}", properties=properties)


def _card(row: Mapping[str, Any], structure: Structure, index: int, novel: bool | None) -> str:
    group, formula = int(row["space_group_number"]), structure.formula
    sites = " ".join(f"{site['symbol']}&nbsp;{esc(site['site'])}" for site in _sites(row))
    badges = "" if novel is None else f'<span class="badge">{"novel" if novel else "known"}</span>'
    if row.get("e_above_hull") is not None:
        badges += f'<span class="badge">{1000 * row["e_above_hull"]:.0f} meV/atom above hull</span>'
    elif row.get("energy_per_atom") is not None:
        badges += f'<span class="badge">relaxed, {row["energy_per_atom"]:.2f} eV/atom</span>'
    name = f"{formula}, space group {space_group_text(group)}"
    data = base64.b64encode(_cif(row, structure).encode()).decode()
    return (
        f'<article class="crystal"><button class="picture" data-index="{index}" aria-label="3-D view of {esc(name)}">'
        f"{draw(make_scene(structure), esc(name))}</button>"
        f"<h4>{formula_html(formula)}</h4>"
        f'<p class="group">{space_group_html(group)} <span class="faint">{group}</span></p>'
        f'<p class="sites">{sites}</p><p class="badges">{badges}</p>'
        f'<p class="foot"><span class="faint">#{row["sample_id"]} · {structure.num_atoms} atoms</span>'
        f'<a download="{esc(formula)}-{row["sample_id"]:08d}.cif" href="data:chemical/x-cif;base64,{data}">CIF</a></p>'
        "</article>"
    )


def _viewer_entry(row: Mapping[str, Any], structure: Structure) -> dict[str, Any]:
    group = int(row["space_group_number"])
    facts = [["Space group", f"{space_group_html(group)} ({group})"], ["Atoms in the cell", str(structure.num_atoms)]]
    facts += cell_facts(structure)
    facts.append(["Sites", ", ".join(f"{s['symbol']} {esc(s['site'])}" for s in _sites(row))])
    if row.get("energy_per_atom") is not None:
        facts.append(["Energy", f"{row['energy_per_atom']:.4f} eV/atom"])
    if row.get("e_above_hull") is not None:
        facts.append(["Above hull", f"{row['e_above_hull']:.4f} eV/atom"])
    facts.append(["sample_id, seed", f"{row['sample_id']}, {row.get('seed')}"])
    return cell_entry(structure, facts)


def failure_strip(population: Population, count: int) -> tuple[str, set[int]]:
    """Cards of the first samples that did not become a crystal: what was drawn, and why it failed."""
    for stage in ("relaxed", "structures", "samples"):
        table = getattr(population, stage)
        ids, status = column(table, "sample_id"), column(table, "status")
        if ids is not None and status is not None:
            chosen = [int(i) for i in ids[status != "ok"][:count]]
            rows = read_rows(population.directory / stage, chosen)
            cards, elements = [], set()
            for sample_id in chosen:
                card, numbers = _failure_card(rows[sample_id])
                cards.append(card)
                elements |= numbers
            return "".join(cards), elements
    return "", set()


def _failure_card(row: Mapping[str, Any]) -> tuple[str, set[int]]:
    group, picture, numbers = int(row.get("space_group_number") or 0), "", set()
    structure = _drawn_unit(row)
    words = ""
    if structure is not None:
        numbers = {int(z) for z in structure.atomic_numbers}
        words = " ".join(f"{SYMBOLS[z]}" for z in sorted(numbers))
        picture = draw(make_scene(structure), esc(f"failed sample {row['sample_id']}"))
    return (
        f'<article class="crystal failed"><div class="picture">{picture}</div><h4>{esc(row["status"])}</h4>'
        f'<p class="group">{space_group_html(group)} <span class="faint">{group or ""}</span> {words}</p>'
        f'<p class="reason">{esc(row.get("reason") or "")}</p>'
        f'<p class="foot"><span class="faint">#{row["sample_id"]} · {number(row.get("num_orbits"))} orbits</span></p>'
        "</article>"
    ), numbers


def _drawn_unit(row: Mapping[str, Any]) -> Structure | None:
    """The crystal of a failed row where one was decoded, else the representatives alone in the cell that was drawn."""
    if row.get("lattice") is not None and np.isfinite(row["lattice"]).all():
        return _shown_structure({**row, "relaxed_lattice": None})
    if row.get("lattice_k") is None or not row.get("atomic_numbers"):
        return None
    lattice = lattice_from_k(np.asarray(row["lattice_k"], dtype=np.float64))
    coords = np.asarray(row["frac_coords"], dtype=np.float64).reshape(-1, 3)
    if not (np.isfinite(lattice).all() and np.isfinite(coords).all() and np.linalg.det(lattice) > 1e-3):
        return None
    return Structure(lattice, coords, np.asarray(row["atomic_numbers"], dtype=np.int64))


def viewer_data(entries: list[dict[str, Any]], elements: set[int]) -> str:
    """Everything the 3-D viewer needs, as JSON that may stand inside a script element."""
    data = {
        "crystals": entries,
        "colors": {str(z): element_color(z) for z in elements},
        "radii": {str(z): round(float(COVALENT_RADII[min(z, len(COVALENT_RADII) - 1)]), 3) for z in elements},
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


__all__ = ["Gallery", "choose", "failure_strip", "gradients", "make_gallery", "viewer_data"]
