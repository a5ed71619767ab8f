"""What the 3-D viewer is given of every structure, crystal or framework."""

from typing import Any

import numpy as np

from matgen.crystal.structure import Structure
from matgen.evaluation.report.picture import element_key, upright
from matgen.evaluation.report.symbols import formula_html


def cell_facts(structure: Structure) -> list[list[str]]:
    """Lengths and angles of the cell, as the viewer lists them."""
    return [
        ["a, b, c", " ".join(f"{x:.3f}" for x in structure.lengths) + " Å"],
        ["α, β, γ", " ".join(f"{x:.1f}" for x in structure.angles) + "°"],
    ]


def cell_entry(structure: Structure, facts: list[list[str]]) -> dict[str, Any]:
    """Title, facts and atoms of one structure.

    Args:
        structure: what is shown.
        facts: name and value of each line beside it, as HTML.
    """
    return {
        "title": formula_html(structure.formula),
        "facts": facts,
        "key": element_key(structure.atomic_numbers),
        "lattice": np.round(upright(structure.lattice), 4).tolist(),
        "coords": np.round(structure.frac_coords, 4).tolist(),
        "numbers": structure.atomic_numbers.tolist(),
    }
