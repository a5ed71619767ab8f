"""Who is stopped: at equal cost, never a yardstick, and by what earlier sessions saw."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.symmcd_demo import symmcd_demo
from sweeps.journal import Journal, SweepConfig, create_sweep
from sweeps.observer import candidates
from sweeps.runner import number_of, seen
from sweeps.schedulers import clamped, make_scheduler
from sweeps.symmcd_spaces import DEMO, POPULATION

pytest.importorskip("ray.tune")
NOTHING: Any = None


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return create_sweep(tmp_path / "s", SweepConfig(), symmcd_demo(), DEMO)


def decide(scheduler: Any, name: str, rung: int, objective: float, keep: bool = False) -> str:
    trial: Any = SimpleNamespace(trial_id=name, config={"keep": keep})
    if name not in scheduler._trial_info:
        scheduler.on_trial_add(NOTHING, trial)
    return str(scheduler.on_trial_result(NOTHING, trial, {"rung": rung, "objective": objective}))


def test_the_worse_ones_stop_at_a_rung_and_the_yardstick_never(journal: Journal) -> None:
    scheduler = make_scheduler(journal, DEMO)
    assert [decide(scheduler, f"t{i}", 0, 0.1 * i) for i in range(3)] == ["CONTINUE"] * 3
    assert decide(scheduler, "bad", 0, 0.05) == "STOP"
    assert decide(scheduler, "default", 0, 0.05, keep=True) == "CONTINUE"
    assert decide(scheduler, "good", 0, 0.9) == "CONTINUE"
    assert decide(scheduler, "good", 1, 0.0) == "CONTINUE"  # the first one at its rung


def test_a_resumed_sweep_knows_the_rungs_of_the_trials_that_ended(journal: Journal) -> None:
    for number in range(3):
        journal.suggested(number, {}, "search")
        journal.reported({"number": number, "rung": 0, "cost": 1.0, "objective": 0.5 + 0.1 * number, "status": "ok"})
        journal.ended(number, "stopped")
    assert decide(make_scheduler(journal, DEMO), "new", 0, 0.3) == "STOP"


def test_a_trial_is_reported_once_a_rung(journal: Journal) -> None:
    journal.suggested(0, {}, "default")
    report = {"number": 0, "rung": 0, "cost": 1.0, "objective": 0.5, "status": "ok"}
    assert journal.reported(report)
    assert not journal.reported(report)
    assert len(journal.trials[0].reports) == 1


def test_checkpoints_of_the_best_and_of_the_yardsticks_are_kept(journal: Journal) -> None:
    for number in range(8):
        journal.suggested(number, {}, "default" if number == 0 else "search")
        journal.reported({"number": number, "rung": 2, "cost": 9.0, "objective": 0.1 * number, "status": "ok"})
        journal.ended(number, "stopped" if number == 7 else "done")
    assert [trial.number for trial in candidates(journal)] == [6, 5, 4, 0]


def test_a_member_that_takes_over_settings_keeps_its_number() -> None:
    class Member(SimpleNamespace):
        def __str__(self) -> str:
            return "trial-00003"

    trial = Member(config={"member": {"number": 2, "values": {"train.learning_rate": 0.1}, "origin": "search"}})
    assert number_of("trial-00012") == 12
    assert seen(trial) == {"number": 3, "values": {"train.learning_rate": 0.1}, "origin": "search"}


def test_changed_settings_stay_in_the_space() -> None:
    inside = clamped(POPULATION, {"train.learning_rate": 0.006, "model.weights.lattice": 0.04})
    assert inside == {"train.learning_rate": 5e-3, "model.weights.lattice": 0.05}
