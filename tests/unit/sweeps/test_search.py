"""What is suggested next, and what a journal keeps through crashes."""

import json
from pathlib import Path

import pytest

from experiments.symmcd_demo import symmcd_demo
from matgen.errors import ConfigError, StageError
from matgen.settings import to_dict
from sweeps.journal import Journal, SweepConfig, create_sweep, open_sweep
from sweeps.search import Suggestions, default_values
from sweeps.spaces import Values
from sweeps.symmcd_spaces import DEMO, PAPER_LOSSES

pytest.importorskip("optuna")


def begin(folder: Path, **settings: object) -> Journal:
    config = SweepConfig(space="demo", **settings)  # type: ignore[arg-type]
    return create_sweep(folder, config, symmcd_demo(), DEMO)


def rate_of(values: Values) -> float:
    return float(values.get("train.learning_rate") or 1e-3)


def run_all(journal: Journal, stop_after: int | None = None) -> dict[int, Values]:
    """Hand out trials one at a time; their quality is a known function of the learning rate."""
    defaults = default_values(DEMO, journal.experiment)
    suggestions = Suggestions(DEMO, journal, defaults)
    done = 0
    while (trial := suggestions.next()) is not None:
        if stop_after is not None and done == stop_after:
            break  # as if killed with this trial begun and not ended
        rate = rate_of(trial.values)
        objective = 1 / (1 + abs(rate - 0.004) * 1000)
        journal.reported({"number": trial.number, "rung": 2, "cost": 9.0, "objective": objective, "status": "ok"})
        journal.ended(trial.number, "done")
        done += 1
    return {number: trial.values for number, trial in journal.trials.items()}


@pytest.mark.parametrize("search", ["tpe", "random"])
def test_a_sweep_killed_twice_has_the_trials_of_an_undisturbed_one(search: str, tmp_path: Path) -> None:
    undisturbed = run_all(begin(tmp_path / "a", search=search, trials=14, baselines=("paper",)))
    begin(tmp_path / "b", search=search, trials=14, baselines=("paper",))
    for stop_after in (4, 5, None):
        journal, _ = open_sweep(tmp_path / "b")
        disturbed = run_all(journal, stop_after)
    assert disturbed == undisturbed
    assert len(undisturbed) == 15


def test_defaults_and_baselines_come_first(tmp_path: Path) -> None:
    journal = begin(tmp_path / "s", trials=4, baselines=("paper",))
    run_all(journal)
    assert [trial.origin for trial in journal.trials.values()] == ["default", "paper", "first", "search", "search"]
    assert journal.trials[2].values == DEMO.first[0]
    assert set(journal.trials[3].values) == set(DEMO.names)


def test_tpe_comes_closer_than_random_numbers(tmp_path: Path) -> None:
    misses = {}
    for search in ("tpe", "random"):
        found = run_all(begin(tmp_path / search, search=search, trials=70))
        late = [abs(rate_of(values) - 0.004) for number, values in found.items() if number >= 45]
        misses[search] = sum(late) / len(late)
    assert misses["tpe"] < 0.75 * misses["random"]


def test_a_grid_walks_all_points_once(tmp_path: Path) -> None:
    config = SweepConfig(space="paper_losses", search="grid", trials=1000)
    journal = create_sweep(tmp_path / "g", config, symmcd_demo(), PAPER_LOSSES)
    suggestions = Suggestions(PAPER_LOSSES, journal, {})
    points = []
    while (trial := suggestions.next()) is not None:
        journal.ended(trial.number, "done")
        points.append(json.dumps(trial.values))
    assert len(points) == len(set(points)) == 126
    with pytest.raises(ConfigError, match="a grid needs finite choices"):
        Suggestions(DEMO, begin(tmp_path / "d", search="grid"), {})


def test_a_line_cut_short_is_dropped_and_a_corrupt_one_refused(tmp_path: Path) -> None:
    journal = begin(tmp_path / "s", trials=3)
    run_all(journal, stop_after=2)
    path = tmp_path / "s" / "trials.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"event": "rep')
    again, _ = open_sweep(tmp_path / "s")
    assert len(again.trials) == 3
    assert path.read_text() == whole
    path.write_text("nonsense\n" + whole)
    with pytest.raises(StageError, match=r"line 1 is no line of a sweep"):
        open_sweep(tmp_path / "s")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 99}', '{"format": 1, "config": {"trails": 3}}'])
def test_a_corrupt_sweep_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(StageError, match=r"sweep\.json"):
        open_sweep(tmp_path)


def test_a_directory_with_anything_in_it_is_left_alone(tmp_path: Path) -> None:
    begin(tmp_path / "s", trials=3)
    before = (tmp_path / "s" / "sweep.json").read_text()
    with pytest.raises(StageError, match="holds a sweep already"):
        begin(tmp_path / "s", trials=5)
    assert (tmp_path / "s" / "sweep.json").read_text() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(StageError, match="not an empty directory"):
        begin(tmp_path / "other", trials=5)


def test_the_experiment_is_kept_as_it_was(tmp_path: Path) -> None:
    begin(tmp_path / "s", trials=3)
    journal, about = open_sweep(tmp_path / "s")
    assert journal.experiment == json.loads(json.dumps(to_dict(symmcd_demo())))
    assert about["space"]["name"] == "demo"
