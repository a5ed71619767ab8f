"""The command line of a sweep: every mistake is one clear line, and nothing is made or overwritten."""

from pathlib import Path

import pytest

from experiments.mofdiff_demo import mofdiff_demo
from experiments.symmcd_demo import symmcd_demo
from matgen.errors import StageError
from sweeps.arguments import build_parser
from sweeps.command import _resumed, main
from sweeps.journal import SweepConfig, claimed, create_sweep
from sweeps.mofdiff_spaces import FRAMEWORK_SCHEDULES
from sweeps.runner import concurrency, trial_resources
from sweeps.symmcd_spaces import DEMO
from sweeps.tune_mofdiff import PARTS, tune
from sweeps.tune_symmcd import DEFAULTS

pytest.importorskip("optuna")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "0"], "at least 1 trial, not 0"),
        (["--space", "demos"], "unknown space 'demos'"),
        (["--only", "train.learnin_rate"], "space 'demo' has no parameter 'train.learnin_rate' (it has: train.learn"),
        (["--only", ","], "space 'demo' is empty"),
        (["--reduction", "1"], "a reduction of at least 2"),
        (["--concurrent", "0"], "must be at least 1"),
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


def begun(folder: Path) -> Path:
    create_sweep(folder, SweepConfig(trials=2), symmcd_demo(), DEMO)
    (folder / "trials.jsonl").write_text('{"event": "suggested", "number": 0, "values": {}, "origin": "default"}\n')
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != "sweep.lock"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sweep.json", "{", "sweep.json: no sweep of ours, or corrupt"),
        ("sweep.json", "[]", "sweep.json: no sweep of ours, or corrupt"),
        ("trials.jsonl", "rubbish\n{}\n", "trials.jsonl: line 1 is no line of a sweep: it is corrupt"),
        ("trials.jsonl", '{"event": "report", "number": 7}\n{}\n', "trials.jsonl: line 1 is no line of a sweep"),
    ],
)
def test_a_corrupt_sweep_is_refused_and_left_as_it_is(
    name: str, text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = begun(tmp_path / "s")
    (folder / name).write_text(text)
    before = contents(folder)
    assert main(DEFAULTS, "", ["--resume", str(folder)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and message in said[0], said
    assert contents(folder) == before


def test_another_sweep_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = begun(tmp_path / "s")
    before = contents(folder)
    assert main(DEFAULTS, "", ["--out", str(folder)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "holds a sweep already: go on with --resume" in said[0]
    assert contents(folder) == before


def test_a_sweep_has_one_driver_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = begun(tmp_path / "s")
    with claimed(folder):
        assert main(DEFAULTS, "", ["--resume", str(folder)]) == 2
    assert "another process works on this sweep" in capsys.readouterr().err
    with claimed(folder):
        pass


def test_a_resumed_sweep_knows_where_its_data_lie(tmp_path: Path) -> None:
    config = SweepConfig(trials=2, only=("train.learning_rate",))
    experiment, space = symmcd_demo(), DEMO.only(config.only)
    create_sweep(tmp_path / "s", config, experiment, space, {"data": str(tmp_path)})
    arguments = build_parser(DEFAULTS, "").parse_args(["--resume", str(tmp_path / "s")])
    journal, read, again = _resumed(arguments)
    assert (arguments.data, arguments.records) == (tmp_path, None)
    assert (read, again.names, journal.config) == (experiment, ("train.learning_rate",), config)


def test_mofdiff_knows_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(["--part", "linkers"]) == 2
    assert "blocks and frameworks" in capsys.readouterr().err
    assert tune(["--experiment", "symmcd_demo", "--out", str(tmp_path / "out")]) == 2
    assert "no experiment on frameworks" in capsys.readouterr().err
    assert set(PARTS) == {"blocks", "frameworks"}
    begun(tmp_path / "crystals")
    before = contents(tmp_path / "crystals")
    assert tune(["--resume", str(tmp_path / "crystals")]) == 2
    assert "no sweep here" in capsys.readouterr().err
    (tmp_path / "both" / "frameworks").mkdir(parents=True)
    assert tune(["--out", str(tmp_path / "both")]) == 2
    assert "holds a sweep already" in capsys.readouterr().err
    assert contents(tmp_path / "crystals") == before and not (tmp_path / "crystals" / "blocks").exists()


def test_the_second_part_of_a_resumed_sweep_begins_as_the_first_one_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--trials", "3", "--out", str(tmp_path / "s" / "blocks")]
    create_sweep(tmp_path / "s" / "blocks", SweepConfig(trials=3), symmcd_demo(), DEMO, {}, words)
    called: list[list[str]] = []
    monkeypatch.setattr("sweeps.tune_mofdiff.main", lambda part, text, argv: called.append(argv) or 0)
    assert tune(["--resume", str(tmp_path / "s")]) == 0
    frameworks, best = tmp_path / "s" / "frameworks", tmp_path / "s" / "blocks" / "best.json"
    assert tune(["--resume", str(tmp_path / "s" / "blocks")]) == 2  # a sweep of crystals
    create_sweep(
        tmp_path / "part", SweepConfig(subject="mofdiff", space="frameworks"), mofdiff_demo(), FRAMEWORK_SCHEDULES
    )
    assert tune(["--resume", str(tmp_path / "part")]) == 0
    assert called.pop() == ["--resume", str(tmp_path / "part")]
    (tmp_path / "part" / "sweep.json").write_text("{")
    assert tune(["--resume", str(tmp_path / "part")]) == 2
    assert called == [
        ["--resume", str(tmp_path / "s" / "blocks")],
        ["--trials", "3", "--out", str(frameworks), "--config", str(best)],
    ]


def test_concurrency_follows_the_resources() -> None:
    cluster = {"CPU": 64.0, "GPU": 8.0}
    assert concurrency(SweepConfig(), cluster) == 64
    assert concurrency(SweepConfig(cpus_per_worker=4, gpus_per_worker=1), cluster) == 8
    assert concurrency(SweepConfig(workers_per_trial=2, cpus_per_worker=4, gpus_per_worker=1), cluster) == 4
    assert concurrency(SweepConfig(gpus_per_worker=0.25), cluster) == 32
    assert concurrency(SweepConfig(concurrent=3), cluster) == 3
    with pytest.raises(StageError, match="a trial needs 2 GPUs, and Ray has 0"):
        concurrency(SweepConfig(gpus_per_worker=2), {"CPU": 4.0})


def test_the_driver_of_a_trial_with_workers_reserves_no_cpu() -> None:
    pytest.importorskip("ray.tune")
    assert trial_resources(SweepConfig(workers_per_trial=2), {}).required_resources.get("CPU", 0) == 0
    assert trial_resources(SweepConfig(cpus_per_worker=3), {}).required_resources["CPU"] == 3
