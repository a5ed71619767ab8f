"""The whole line in minutes, on crystals that ship inside pymatgen."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matgen.config import Experiment


def symmcd_demo() -> "Experiment":
    """The whole line in some minutes on a laptop: embedded AFLOW prototypes, a tiny network, a report"""
    from matgen.config import (
        STAGES,
        Experiment,
        PreprocessConfig,
        RelaxStageConfig,
        SampleConfig,
        SymmCDConfig,
        TrainConfig,
    )
    from matgen.models.requests import fast_sampler
    from matgen.nn.cspnet import tiny_network

    return Experiment(
        name="symmcd_demo",
        stages=(*STAGES[:-1], "shipped", "report"),
        preprocess=PreprocessConfig(source="aflow", shard_size=64),
        model=SymmCDConfig(network=tiny_network()),
        train=TrainConfig(
            max_steps=400, batch_size=64, warmup_steps=20, validate_every=100, checkpoint_every=100, ema_decay=0.99
        ),
        sample=SampleConfig(count=64, shard_size=32, batch_size=32, sampler=fast_sampler(50)),
        relax=RelaxStageConfig(limit=8),
    )
