import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy import Toy

from matgen.errors import CheckpointError
from matgen.settings import to_dict
from matgen.training.crystals import CrystalSet
from matgen.training.dataset import TrainingError
from matgen.training.history import TIMING, History, read_history
from matgen.training.loop import Trainer


def curve(out: Path) -> list[dict]:
    """The history without what differs between two runs that are otherwise the same."""
    rows = read_history(out / "history.jsonl")
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def trainer(out: Path, config, priors, records, validation, toy: Toy | None = None, **settings) -> Trainer:
    dataset = CrystalSet(priors, records, validation, config)
    return Trainer(toy or Toy(), dataset, config, out, run_config={"model": {"toy": 1}}, **settings)


def weights(out: Path) -> dict[str, torch.Tensor]:
    files = [out / f"checkpoints/last/{name}.safetensors" for name in ("weights", "model", "optimizer")]
    return {f"{file.stem}.{name}": tensor for file in files for name, tensor in load_file(file).items()}


@pytest.fixture
def undisturbed(tmp_path, train_config, priors, fake_records, fake_validation):
    out = tmp_path / "undisturbed"
    result = trainer(out, train_config, priors, fake_records, fake_validation).run()
    assert result.finished and result.step == 24
    return out


def test_history_and_learning(undisturbed, train_config):
    rows = read_history(undisturbed / "history.jsonl")
    train = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in train] == list(range(3, 25, 3))
    assert [row["step"] for row in rows if row["kind"] == "validation"] == [8, 16, 24]
    assert train[-1]["total"] < 0.5 * train[0]["total"]
    assert {"total", "lattice", "grad_norm", "learning_rate", "epoch", "num_skipped", *TIMING} <= set(train[0])
    assert train[1]["epoch"] == pytest.approx(6 * 8 / 60)


def dying(after_step, run: Trainer, stop: int):
    """A crash in the middle of the step behind `stop`."""

    def dies(*args) -> None:
        if run.state.step > stop:
            raise KeyboardInterrupt
        after_step(*args)

    return dies


@pytest.mark.parametrize("stops", [(7,), (1, 2, 20), (10, 11, 12, 13)])
def test_resumed_run_is_the_undisturbed_one(
    undisturbed, tmp_path, train_config, priors, fake_records, fake_validation, stops
):
    out = tmp_path / "resumed"
    for stop in stops:
        begun = (out / "checkpoints/last").exists()
        run = trainer(out, train_config, priors, fake_records, fake_validation, Toy(seed=9 if begun else 0))
        run._after_step = dying(run._after_step, run, stop)
        with pytest.raises(KeyboardInterrupt):
            run.run()
    result = trainer(out, train_config, priors, fake_records, fake_validation, Toy(seed=5)).run()
    assert result.finished
    assert curve(out) == curve(undisturbed)
    for name, tensor in weights(undisturbed).items():
        assert torch.equal(tensor, weights(out)[name]), name
    assert (out / "checkpoints/best").resolve().name == (undisturbed / "checkpoints/best").resolve().name


def test_stop_request_saves_at_once_and_a_finished_run_does_nothing(
    undisturbed, tmp_path, train_config, priors, fake_records, fake_validation
):
    out = tmp_path / "stopped"
    run = trainer(out, train_config, priors, fake_records, fake_validation)
    run.on_log = lambda row, state: setattr(run, "stop_requested", True)
    result = run.run()
    assert not result.finished and result.step == 4 and (out / "checkpoints/last").resolve().name == "step-00000004"
    assert trainer(out, train_config, priors, fake_records, fake_validation).run().finished
    again = trainer(out, train_config, priors, fake_records, fake_validation).run()
    assert again.finished and again.step == 24
    assert curve(out) == curve(undisturbed)


def test_max_seconds_and_epochs(tmp_path, train_config, priors, fake_records, fake_validation):
    config = replace(train_config, max_seconds=0.0)
    result = trainer(tmp_path / "a", config, priors, fake_records, fake_validation).run()
    assert not result.finished and result.step == 1
    config = replace(train_config, max_steps=None, max_epochs=2)
    result = trainer(tmp_path / "b", config, priors, fake_records, fake_validation).run()
    assert result.finished and result.step == 15


def test_best_is_the_smallest_validation_loss(tmp_path, train_config, priors, fake_records, fake_validation):
    config = replace(train_config, learning_rate=3.0, decay="constant", grad_clip_norm=0.0, validate_every=2)
    result = trainer(tmp_path, config, priors, fake_records, fake_validation).run()
    losses = {row["step"]: row["total"] for row in curve(tmp_path) if row["kind"] == "validation"}
    best = min(losses, key=losses.get)
    assert best != 24 and result.best_loss == losses[best]
    assert (tmp_path / "checkpoints/best").resolve().name == f"step-{best:08d}"


def test_skipped_steps_leave_the_history_finite(tmp_path, train_config, priors, fake_records, fake_validation):
    toy = Toy()
    toy.poison = {8 * 4, 8 * 7, *range(8 * 9, 8 * 12)}
    result = trainer(tmp_path, train_config, priors, fake_records, fake_validation, toy).run()
    assert result.num_skipped == 5 and result.finished
    rows = [row for row in read_history(tmp_path / "history.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in rows if "total" not in row] == [12]
    assert all(row["total"] == row["total"] for row in rows if "total" in row)
    json.loads((tmp_path / "checkpoints/last/state.json").read_text())


def test_fine_tuning_begins_with_the_averaged_weights(
    undisturbed, tmp_path, train_config, priors, fake_records, fake_validation
):
    run = trainer(
        tmp_path / "tuned", train_config, priors, fake_records, fake_validation, Toy(3), init_from=undisturbed
    )
    best = load_file(undisturbed / "checkpoints/best/weights.safetensors")
    for name, parameter in run.state.model.named_parameters():
        assert torch.equal(parameter, best[name]) and torch.equal(run.state.ema.weights[name], best[name])
    assert run.state.step == 0


def test_without_validation_set_it_trains(tmp_path, train_config, priors, fake_records):
    result = trainer(tmp_path, train_config, priors, fake_records, fake_records.select([])).run()
    assert result.finished and result.best_loss == float("inf") and not (tmp_path / "checkpoints/best").exists()


def test_refusals(tmp_path, undisturbed, train_config, priors, fake_records, fake_validation):
    with pytest.raises(TrainingError, match="no crystal"):
        trainer(tmp_path / "x", train_config, priors, fake_records.select([]), fake_validation)
    with pytest.raises(CheckpointError, match="another model"):
        dataset = CrystalSet(priors, fake_records, fake_validation, train_config)
        Trainer(Toy(), dataset, train_config, undisturbed, run_config={"model": {"toy": 2}})


def test_history_is_cut_and_a_torn_line_removed(tmp_path):
    file = tmp_path / "history.jsonl"
    file.write_text('{"step": 1, "a": 1}\n{"step": 5}\n{"step": 9}\n{"step": 1')
    history = History(file, 5)
    history.append({"step": 6})
    history.close()
    assert read_history(file) == [{"step": 1, "a": 1}, {"step": 5}, {"step": 6}]


@pytest.fixture
def run_folder(tmp_path, tiny_config, train_config, priors, fake_records, fake_validation) -> Path:
    records = tmp_path / "records"
    records.mkdir()
    fake_records.save(records / "train.safetensors")
    fake_validation.save(records / "val.safetensors")
    priors.save(records / "priors.safetensors")
    config = {"model": to_dict(tiny_config), "train": to_dict(replace(train_config, max_steps=60))}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def start(folder: Path, name: str, **settings) -> subprocess.Popen:
    command = [sys.executable, "-m", "matgen.training", "--records", str(folder / "records")]
    command += ["--config", str(folder / "config.json"), "--out", str(folder / name)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **settings)


def wait_for_lines(file: Path, count: int, process: subprocess.Popen) -> None:
    until = time.monotonic() + 120
    while len(read_history(file)) < count and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_process_resumes_to_the_same_curve(run_folder):
    whole = start(run_folder, "whole")
    assert whole.wait(200) == 0, whole.stderr.read()
    rng = random.Random(os.getpid())
    for lines in sorted(rng.sample(range(1, 25), 2)):
        process = start(run_folder, "killed")
        wait_for_lines(run_folder / "killed/history.jsonl", lines, process)
        time.sleep(rng.random() * 0.2)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    # what a scheduler sends before the end of an allocation
    process = start(run_folder, "killed")
    wait_for_lines(run_folder / "killed/history.jsonl", 26, process)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(100) == 0
    assert start(run_folder, "killed").wait(200) == 0
    assert curve(run_folder / "whole") == curve(run_folder / "killed")
    assert curve(run_folder / "whole")[-1]["step"] == 60
    for name, tensor in weights(run_folder / "whole").items():
        assert torch.equal(tensor, weights(run_folder / "killed")[name]), name


def test_command_line_errors_are_one_line(run_folder):
    (run_folder / "config.json").write_text('{"train": {"max_step": 3}}')
    process = start(run_folder, "bad")
    assert process.wait(100) == 1
    text = process.stderr.read()
    assert text.count("\n") == 1 and "max_step" in text and "max_steps" in text
    assert not (run_folder / "bad").exists()
