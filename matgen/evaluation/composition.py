"""Is a composition chemically plausible? Charge neutrality and the Pauling test of SMACT, enumerated by sums."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Literal, NamedTuple

import numpy as np

from matgen.crystal.elements import SYMBOLS
from matgen.errors import StructureError

OxidationStates = Literal["smact14", "icsd16", "icsd24", "pymatgen_sp", "wiki"]
_ATTRIBUTES = {
    "smact14": "oxidation_states_smact14",
    "icsd16": "oxidation_states_icsd16",
    "icsd24": "oxidation_states_icsd24",
    "pymatgen_sp": "oxidation_states_sp",
    "wiki": "oxidation_states_wiki",
}


@dataclass(frozen=True, kw_only=True)
class CompositionConfig:
    """Which SMACT test is meant: every argument that a version of the package once changed is stated.

    oxidation_states: the list; smact14 is the one that the published tables used. include_alloys: metals only pass.
    use_pauling_test: cations must be less electronegative than anions. One oxidation state per element throughout
    (no mixed valence), and no metallicity score.
    """

    oxidation_states: OxidationStates = "smact14"
    use_pauling_test: bool = True
    include_alloys: bool = True

    def protocol(self) -> str:
        """One line that names the test, the list and the version of the package that the list comes from."""
        return (
            f"SMACT {version('smact')} data, oxidation states {self.oxidation_states}, one state per element "
            f"(mixed_valence=False), use_pauling_test={self.use_pauling_test}, "
            f"include_alloys={self.include_alloys}, check_metallicity=False; elements pass"
        )


_TERM = re.compile(r"([A-Z][a-z]?)(\d*)")


@lru_cache(maxsize=100_000)
def parse_formula(formula: str) -> tuple[tuple[int, int], ...]:
    """((atomic number, count), ...) of a formula without brackets, such as `Structure.formula`.

    Raises:
        ValueError: not such a formula.
    """
    terms = _TERM.findall(formula)
    if "".join(symbol + count for symbol, count in terms) != formula:
        raise ValueError(f"not a formula: {formula!r}")
    return tuple(sorted((SYMBOLS.index(symbol), int(count or 1)) for symbol, count in terms))


class _Element(NamedTuple):
    states: tuple[int, ...]
    electronegativity: float | None
    is_metal: bool


def composition_counts(atomic_numbers: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Reduced composition as ((atomic number, count), ...), ascending, counts divided by their common divisor.

    Args:
        atomic_numbers: of all atoms of a cell, from 1.
    """
    counts = sorted(Counter(np.asarray(atomic_numbers).tolist()).items())
    divisor = int(np.gcd.reduce([n for _, n in counts])) if counts else 1
    return tuple((int(z), int(n) // divisor) for z, n in counts)


@cache
def _element(atomic_number: int, oxidation_states: str) -> _Element:
    import smact
    from smact.screening import metals

    symbol = SYMBOLS[atomic_number]
    try:
        element = smact.Element(symbol)
    except (KeyError, NameError) as error:
        raise StructureError(f"SMACT has no data for {symbol}", status="unsupported_element") from error
    states = getattr(element, _ATTRIBUTES[oxidation_states]) or ()
    eneg = element.pauling_eneg
    return _Element(tuple(int(q) for q in states), None if eneg is None else float(eneg), symbol in set(metals))


def _reaches_zero(terms: list[tuple[int, tuple[int, ...]]]) -> bool:
    """Whether one state per element can be chosen so that the charges, times their counts, sum to zero."""
    sums = {0}
    for count, states in terms:
        if not states:
            return False
        sums = {total + count * q for total in sums for q in states}
    return 0 in sums


@lru_cache(maxsize=200_000)
def is_compositionally_valid(counts: tuple[tuple[int, int], ...], config: CompositionConfig) -> bool:
    """Whether some assignment of oxidation states is neutral and passes the Pauling test.

    The Pauling test holds exactly if an electronegativity separates all cations (below) from all anions (above), so
    each such threshold is tried, with sums of charges in place of combinations of states: linear in the number of
    elements where SMACT's own enumeration is exponential, with the same answer.

    Args:
        counts: from `composition_counts`.
        config: which test.

    Raises:
        StructureError: SMACT has no data for an element.

    Source: Davies et al., Chem 2016, 1, 617 (SMACT); rules of `smact.screening.smact_validity` 4.0.2.
    """
    if len(counts) == 1:
        return True
    elements = [_element(z, config.oxidation_states) for z, _ in counts]
    if config.include_alloys and all(e.is_metal for e in elements):
        return True
    stoichiometry = [n for _, n in counts]
    if not config.use_pauling_test:
        return _reaches_zero([(n, e.states) for n, e in zip(stoichiometry, elements, strict=True)])
    enegs = [e.electronegativity for e in elements]
    if any(eneg is None for eneg in enegs):
        return False  # SMACT fails every pair with an unknown electronegativity
    values = [float(eneg) for eneg in enegs if eneg is not None]
    for threshold in sorted(set(values)):
        terms = [
            (n, tuple(q for q in e.states if (q >= 0 if eneg < threshold else q <= 0)))
            for n, e, eneg in zip(stoichiometry, elements, values, strict=True)
        ]
        if _reaches_zero(terms):
            return True
    return False
