"""Molecules that a metal may hold although no framework needs them, by formula."""

import re

__all__ = ["is_solvent"]

_SOLVENTS = frozenset({
    "H2O", "H3N", "CH4O", "C2H6O", "C3H8O", "C2H6O2", "C3H8O2", "C4H10O", "C3H6O", "C4H8O", "C4H8O2", "CO2", "C2H3N",
    "C5H5N", "CH3NO", "C2H5NO", "C3H7NO", "C4H9NO", "C5H11NO", "C5H9NO", "C2H6OS", "C4H8OS", "CH3NO2", "CH2Cl2",
    "CHCl3",
})  # fmt: skip
"""Water, ammonia, alcohols, glycol, methoxyethanol, diethyl ether, acetone, tetrahydrofuran, dioxane or ethyl acetate,
CO2, acetonitrile, pyridine, amides from formamide to N-methylpyrrolidone, dimethyl sulfoxide, tetrahydrothiophene
oxide, nitromethane, chlorinated methanes."""

_BARE = frozenset(re.sub(r"H\d*(?![a-z])", "", formula) for formula in _SOLVENTS) - {"CO", "N", "O", "CO2"}
"""The same where the experiment did not find the hydrogens; too short ones could be something else."""


def is_solvent(formula: str) -> bool:
    """Whether a ligand on one metal node is a solvent molecule.

    Args:
        formula: of one molecule, Hill order.
    """
    return formula in _SOLVENTS or formula in _BARE
