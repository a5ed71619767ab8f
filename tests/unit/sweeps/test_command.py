"""The command line of a sweep: every mistake is one clear line, and nothing is made or overwritten."""

from pathlib import Path

import pytest

from matgen.errors import StageError
from sweeps.command import main
from sweeps.journal import SweepConfig
from sweeps.runner import concurrency, trial_resources
from sweeps.tune_mofdiff import PARTS, tune
from sweeps.tune_symmcd import DEFAULTS

pytest.importorskip("optuna")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "0"], "at least 1 trial, not 0"),
        (["--space", "demos"], "unknown space 'demos'"),
        (["--set", "train.max_step=5"], "did you mean train.max_steps"),
        (["--experiment", "symmcd_mp21"], "did you mean symmcd_mp20"),
        (["--experiment", "mofdiff_demo"], "no experiment on crystals"),
        (["--samples", "0"], "samples must be at least 1"),
        (["--budget", "-3"], "must be above 0"),
        (["--gpus-per-worker", "64"], "a trial needs 64 GPUs, and this machine has"),
        (["--workers-per-trial", "4096"], "a trial needs 4096 CPUs"),
        (["--scheduler", "pbt", "--workers-per-trial", "2"], "needs single-worker trials"),
        (["--scheduler", "pbt", "--space", "schedules"], "cannot change"),
        (["--baselines", "tuned"], "unknown baseline 'tuned'"),
        (["--records", "NOWHERE"], "--records NOWHERE: no such folder"),
        (["--config", "NOWHERE"], "--config NOWHERE: no file of settings"),
        (["--resume", "NOWHERE"], "no sweep here"),
        (["--search", "magic"], "invalid choice: 'magic'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    try:
        code = main(DEFAULTS, "", [*arguments, "--out", str(out)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(said) == 1 and message in said[0], said
    assert not out.exists()


def test_mofdiff_knows_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(["--part", "linkers"]) == 2
    assert "blocks and frameworks" in capsys.readouterr().err
    assert tune(["--experiment", "symmcd_demo", "--out", str(tmp_path / "out")]) == 2
    assert "no experiment on frameworks" in capsys.readouterr().err
    assert set(PARTS) == {"blocks", "frameworks"}


def test_concurrency_follows_the_resources() -> None:
    cluster = {"CPU": 64.0, "GPU": 8.0}
    assert concurrency(SweepConfig(), cluster) == 64
    assert concurrency(SweepConfig(cpus_per_worker=4, gpus_per_worker=1), cluster) == 8
    assert concurrency(SweepConfig(workers_per_trial=2, cpus_per_worker=4, gpus_per_worker=1), cluster) == 4
    assert concurrency(SweepConfig(gpus_per_worker=0.25), cluster) == 32
    with pytest.raises(StageError, match="a trial needs 2 GPUs, and Ray has 0"):
        concurrency(SweepConfig(gpus_per_worker=2), {"CPU": 4.0})


def test_the_driver_of_a_trial_with_workers_reserves_no_cpu() -> None:
    pytest.importorskip("ray.tune")
    assert trial_resources(SweepConfig(workers_per_trial=2), {}).required_resources.get("CPU", 0) == 0
    assert trial_resources(SweepConfig(cpus_per_worker=3), {}).required_resources["CPU"] == 3
