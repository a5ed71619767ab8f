import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from matgen.evaluation.stability import StabilityConfig, representative_weights, representatives, stability_columns


def test_thresholds_novelty_uniqueness_and_failures():
    energy = np.array([-0.01, 0.0, 0.05, 0.1, 0.11, np.nan, -0.2])
    component = np.array([1, 1, 2, 3, 4, -1, 5])
    novel = np.array([True, True, True, True, True, False, False])
    table = stability_columns(energy, np.full(7, 2), component, novel)
    assert table["stable"].tolist() == [True, True, False, False, False, False, True]
    assert table["metastable"].tolist() == [True, True, True, True, False, False, True]
    assert table["sun"].tolist() == [True] + [False] * 6  # the lower of the two equal ones; the last is known
    assert table["msun"].tolist() == [True, False, True, True, False, False, False]
    assert table["sun_weight"].tolist() == [0.5, 0.5, 0, 0, 0, 0, 0]
    assert table["msun_weight"].sum() == 3


def test_elements_can_be_left_out():
    table = stability_columns(
        np.zeros(2), np.array([1, 2]), np.array([0, 1]), np.ones(2, bool), StabilityConfig(min_elements=2)
    )
    assert table["stable"].tolist() == [False, True] and table["sun"].tolist() == [False, True]
    assert "at least 2 elements" in StabilityConfig(min_elements=2).protocol("a hull of 7 entries")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-1, 5)), min_size=1, max_size=30), st.randoms())
def test_weights_add_up_to_the_number_of_classes_in_any_order(rows, random):
    flag, component = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    weights = representative_weights(flag, component)
    classes = {c for f, c in rows if f and c >= 0}
    assert np.isclose(weights.sum(), len(classes))
    order = list(range(len(rows)))
    random.shuffle(order)
    np.testing.assert_allclose(representative_weights(flag[order], component[order]), weights[order])
    chosen = representatives(flag, component, np.arange(len(rows)))
    assert chosen.sum() == len(classes) and not (chosen & ~flag).any()
