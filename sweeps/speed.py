"""How fast a training is, against the sweep's own experiment beside it: how busy the machine is must not decide."""

import contextlib
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from matgen.training.loop import Trainer
from matgen.training.run import PlainRun, make_trainer
from matgen.training.state import TrainConfig
from matgen.training.step import Workers
from sweeps.subjects import subject_of

if TYPE_CHECKING:
    from sweeps.trial import TrialJob

STEPS = 5  # of a turn, the first of which is not measured
TURNS = 4  # of each of the two, the first of which is not measured


def trial_training(config: TrainConfig, steps: tuple[int, ...], seed: int) -> TrainConfig:
    """Return the settings of training within a trial: its length, and nothing that costs time for show."""
    return replace(
        config,
        max_steps=steps[-1],
        max_seconds=None,
        num_workers=0,
        warmup_steps=min(config.warmup_steps, max(1, steps[-1] // 10)),
        validate_every=steps[0],
        checkpoint_every=max(config.checkpoint_every, steps[0]),
        log_every=max(1, steps[0] // 5),
        picture_samples=0,
        max_skipped=min(config.max_skipped, 20),
        seed=seed,
    )


def measured_speed(job: "TrialJob", workers: Workers) -> dict[str, float]:
    """Return the speed of a trial's training in seconds of the sweep's own experiment.

    A busy machine slows all trainings, but not all trials meet it equally busy. So the trial and the experiment train
    in turns, a few steps each, and the ratio of their times is what counts; how long a step of the experiment takes is
    measured once in a sweep. On several workers rank 0 alone measures, with its share of the batch.

    Returns:
        `seconds_per_step` of the budget's seconds, the `ratio` to a step of the experiment, and `clock_seconds` that a
        step really took.
    """
    own = subject_of(job.subject).read(job.experiment)
    yardstick = subject_of(job.subject).read(job.yardstick or job.experiment)
    with tempfile.TemporaryDirectory() as aside:
        trainers = [
            _trainer(job, experiment, workers, Path(aside) / name)
            for name, experiment in (("own", own), ("yardstick", yardstick))
        ]
        spent = [0.0, 0.0]
        for turn in range(TURNS):
            for place, trainer in enumerate(trainers):
                seconds = _timed(trainer, STEPS * (turn + 1), workers)
                spent[place] += seconds if turn else 0.0
    measured = (STEPS - 1) * (TURNS - 1)
    ratio = spent[0] / spent[1]
    return {
        "seconds_per_step": ratio * _once(Path(job.reference).with_name("speed.json"), spent[1] / measured),
        "ratio": ratio,
        "clock_seconds": spent[0] / measured,
    }


def _trainer(job: "TrialJob", experiment: Any, workers: Workers, aside: Path) -> Trainer:
    subject = subject_of(job.subject)
    steps = STEPS * TURNS
    train = trial_training(subject.train(experiment), (steps,), job.train_seed)
    share = max(1, train.batch_size // workers.world_size)
    config = replace(train, batch_size=share, validate_every=0, checkpoint_every=steps + 1, log_every=1)
    return make_trainer(
        Path(job.records),
        aside,
        PlainRun(model=subject.model(experiment), train=config, kind=subject.kind),
        workers=Workers(device=workers.device),
    )


def _timed(trainer: Trainer, until: int, workers: Workers) -> float:
    """Train up to a step; return the seconds from the end of the first step to the end of the last."""
    times: list[float] = []
    trainer.on_log = lambda row, state: times.append(clock(workers))
    trainer.run(until=until)
    return times[-1] - times[0]


def _once(path: Path, seconds: float) -> float:
    """Keep the first measurement of a sweep; return it."""
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:
        written = Path(aside) / path.name
        written.write_text(json.dumps({"seconds_per_step": seconds}))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(written)
    kept: Mapping[str, float] = json.loads(path.read_text())
    return kept["seconds_per_step"]


def clock(workers: Workers) -> float:
    """Seconds of the processor where it does the work: how busy the machine is must not decide."""
    if workers.device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
