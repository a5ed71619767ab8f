import json

import numpy as np
import pytest
from evaluation_cells import moved

from matgen.evaluation.novelty import match_structures
from matgen.evaluation.population import References
from matgen.evaluation.reference_index import ReferenceIndex
from matgen.evaluation.sampling_modes import compare_sampling_modes
from matgen.evaluation.scores import score_structures
from matgen.evaluation.table import MissingColumnError, take_rows


@pytest.fixture(scope="module")
def tables(structures):
    """Train: 40 prototypes. "template": copies of them. "free": other prototypes."""
    train = structures[:40]
    index = ReferenceIndex.from_structures("train", train, [str(i) for i in range(40)])
    made = {}
    for mode, drawn in (("free", structures[40:80]), ("template", [moved(s, i) for i, s in enumerate(train)])):
        groups = score_structures(drawn)["space_group_detected"]
        matches = match_structures(drawn, range(len(drawn)), {"train": index})
        made[mode] = score_structures(drawn, groups) | {k: v for k, v in matches.items() if k != "sample_id"}
    scored = score_structures(train)
    return made, References(train_name="train", train=scored, test_name="test", test=scored)


def test_copies_of_the_training_set_are_diverse_and_not_novel(tables, quick_config):
    made, references = tables
    comparison = compare_sampling_modes(made, references, quick_config)
    by_name = {mode: {m.name: m for m in metrics} for mode, metrics in comparison.metrics.items()}
    assert list(by_name["free"]) == list(by_name["template"])
    assert by_name["template"]["novel_structures"].value == 0 and by_name["free"]["novel_structures"].value > 0.9
    assert by_name["template"]["novel_canonical_template_samples"].value == 0
    assert by_name["free"]["novel_canonical_template_samples"].value > 0.3
    assert by_name["template"]["detected_js_train"].value == pytest.approx(0)
    assert by_name["template"]["detected_unique"].value == by_name["template"]["detected_unique"].reference_value
    assert by_name["free"]["detected_unique"].value == len(set(made["free"]["space_group_detected"]))
    for mode, metrics in by_name.items():
        assert metrics["detected_entropy"].value == pytest.approx(metrics["drawn_entropy"].value), mode
    difference = {d.name: d for d in comparison.differences}["novel_structures"]
    assert difference.value == pytest.approx(by_name["free"]["novel_structures"].value)
    assert difference.interval[0] > 0.7 and difference.interval[0] < difference.value <= difference.interval[1]
    assert json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert sum(comparison.histograms["free drawn"]) == 40 and len(comparison.histograms["train"]) == 230


def test_what_it_needs_is_said(tables, quick_config):
    made, references = tables
    with pytest.raises(ValueError, match="two modes"):
        compare_sampling_modes({"free": made["free"]}, references, quick_config)
    bare = {k: v for k, v in made["free"].items() if k != "component"}
    with pytest.raises(MissingColumnError, match="'component'"):
        compare_sampling_modes({"free": bare, "template": made["template"]}, references, quick_config)


def test_a_mode_without_drawn_groups_is_not_run_there(tables, quick_config):
    made, references = tables
    free = take_rows(made["free"], np.arange(20)) | {"space_group_requested": np.zeros(20, dtype=np.int64)}
    comparison = compare_sampling_modes({"free": free, "template": made["template"]}, references, quick_config)
    drawn = [m for m in comparison.metrics["free"] if m.name.startswith("drawn_")]
    assert {m.status for m in drawn} == {"not run"}
    assert not any(d.name.startswith("drawn_") for d in comparison.differences)
