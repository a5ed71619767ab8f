import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smact.screening import smact_validity

from matgen.crystal.elements import SYMBOLS
from matgen.errors import StructureError
from matgen.evaluation.composition import (
    CompositionConfig,
    composition_counts,
    is_compositionally_valid,
    parse_formula,
)

LISTS = ("smact14", "icsd16", "icsd24", "pymatgen_sp")


def by_smact(counts, config) -> bool:
    return smact_validity(
        "".join(f"{SYMBOLS[z]}{n}" for z, n in counts),
        use_pauling_test=config.use_pauling_test,
        include_alloys=config.include_alloys,
        check_metallicity=False,
        oxidation_states_set=config.oxidation_states,
        mixed_valence=False,
    )


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.integers(1, 94), st.integers(1, 6), min_size=1, max_size=4),
    st.sampled_from(LISTS),
    st.booleans(),
    st.booleans(),
)
def test_the_same_answer_as_smact(amounts, oxidation_states, pauling, alloys):
    config = CompositionConfig(oxidation_states=oxidation_states, use_pauling_test=pauling, include_alloys=alloys)
    counts = composition_counts(np.repeat(list(amounts), list(amounts.values())))
    assert is_compositionally_valid(counts, config) == by_smact(counts, config)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("NaCl", True),
        ("Fe2O3", True),
        ("Fe3O4", False),
        ("NaCl2", False),
        ("FeNi3", True),
        ("Ar", True),
        ("NeO", False),
    ],
)
def test_known_compositions(formula, expected):
    assert is_compositionally_valid(parse_formula(formula), CompositionConfig()) is expected


def test_the_answer_does_not_depend_on_formula_units_or_order():
    config = CompositionConfig()
    once, twice = composition_counts(np.array([8, 26, 8, 26, 8])), composition_counts(np.array([26] * 4 + [8] * 6))
    assert once == twice == ((8, 3), (26, 2))
    assert is_compositionally_valid(once, config)


def test_formula_is_read_back_and_nonsense_is_refused():
    assert parse_formula("C2H6O") == ((1, 6), (6, 2), (8, 1))
    with pytest.raises(ValueError, match="not a formula"):
        parse_formula("Fe2(SO4)3")


def test_the_protocol_names_version_and_list():
    text = CompositionConfig(oxidation_states="icsd24").protocol()
    assert "4.0.2" in text and "icsd24" in text and "mixed_valence=False" in text


def test_an_element_that_smact_lacks_is_an_error_with_a_status():
    with pytest.raises(StructureError, match="no data for"):
        is_compositionally_valid(((8, 1), (117, 1)), CompositionConfig())
