"""The small CPU twin of any experiment: the same line with a tiny network and few of everything."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from matgen.config import Experiment
    from matgen.mof_config import MofExperiment

ExperimentT = TypeVar("ExperimentT", "Experiment", "MofExperiment")


def small(experiment: ExperimentT) -> ExperimentT:
    """Return the twin: minutes on a laptop, numbers without meaning.

    Args:
        experiment: any experiment.
    """
    from matgen.config import Experiment

    return _small_crystals(experiment) if isinstance(experiment, Experiment) else _small_mofs(experiment)


def _small_mofs(experiment: "MofExperiment") -> "MofExperiment":
    from matgen.mof_config import tiny_block_encoder, tiny_mofdiff

    few: dict[str, Any] = {
        "max_steps": 60,
        "batch_size": 32,
        "warmup_steps": 10,
        "validate_every": 30,
        "validation_limit": 64,
        "checkpoint_every": 30,
    }
    blocks, assemble = experiment.blocks, experiment.decode.assemble
    anneal = replace(assemble.anneal, starts=4, steps=60, steps_again=40, rounds=1)
    return replace(
        experiment,
        preprocess=replace(experiment.preprocess, limit=256, shard_size=64),
        blocks=replace(blocks, model=tiny_block_encoder(), train=replace(blocks.train, **few)),
        model=tiny_mofdiff(),
        train=replace(experiment.train, **few),
        sample=replace(
            experiment.sample,
            count=24,
            shard_size=8,
            batch_size=8,
            sampler=replace(experiment.sample.sampler, num_steps=20, latent_steps=20),
        ),
        decode=replace(
            experiment.decode,
            lookup=replace(experiment.decode.lookup, num_simple=1, num_passes=1),
            assemble=replace(assemble, anneal=anneal, race_starts=4, race_steps=40, trials=2),
        ),
        relax=replace(experiment.relax, limit=4),
    )


def _small_crystals(experiment: "Experiment") -> "Experiment":
    from matgen.nn.cspnet import tiny_network

    return replace(
        experiment,
        preprocess=replace(experiment.preprocess, limit=256, shard_size=64),
        model=replace(experiment.model, network=tiny_network()),
        train=replace(
            experiment.train,
            max_steps=60,
            batch_size=32,
            warmup_steps=10,
            validate_every=30,
            validation_limit=64,
            checkpoint_every=30,
        ),
        sample=replace(
            experiment.sample,
            count=24,
            shard_size=8,
            batch_size=8,
            sampler=replace(experiment.sample.sampler, num_steps=20),
        ),
        relax=replace(experiment.relax, limit=4),
    )
