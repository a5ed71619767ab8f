"""A tiny run on embedded structures that several tests share: records, and a checkpoint of a few steps."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.preprocess import preprocess
from cluster.run import Run
from cluster.session import ray_session
from experiments.small import small
from experiments.symmcd_demo import symmcd_demo
from matgen.config import Experiment
from matgen.training.__main__ import PlainRun, train_plain


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    experiment = small(symmcd_demo())
    return replace(
        experiment,
        preprocess=replace(experiment.preprocess, limit=96, shard_size=32),
        train=replace(experiment.train, max_steps=3, batch_size=16, validate_every=3, checkpoint_every=3),
        sample=replace(experiment.sample, sampler=replace(experiment.sample.sampler, num_steps=4)),
        evaluate=replace(experiment.evaluate, coverage=False),
    )


@pytest.fixture(scope="session")
def tiny_run(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("tiny")
    run = Run(experiment=tiny, out=out, num_workers=0, progress=False)
    preprocess(run)
    train_plain(run.records_directory, run.directory("train"), PlainRun(model=tiny.model, train=tiny.train), "cpu")
    return run


@pytest.fixture(scope="session")
def checkpoint(tiny_run: Run) -> Path:
    return tiny_run.directory("train")


@pytest.fixture(scope="session")
def ray_up() -> Iterator[None]:
    """One Ray for all tests that need actors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # actors import campaign_works
        patch.setenv("RAY_worker_niceness", "0")  # the default of 15 starves beside the other tests
        with ray_session(2):
            yield
