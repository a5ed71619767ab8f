"""The whole line on frameworks in minutes: a small set, tiny networks, few of everything."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matgen.mof_config import MofExperiment


def mofdiff_demo() -> "MofExperiment":
    """The whole line on frameworks in minutes on a laptop, on embedded hypothetical MOFs, tiny networks, a report"""
    from dataclasses import replace

    from matgen.evaluation.porosity import PorosityConfig
    from matgen.models.mofdiff_sampling import CoarseSamplerConfig
    from matgen.mof.choices import ChoicesConfig
    from matgen.mof.lookup import LookupConfig
    from matgen.mof_config import (
        MOF_STAGES,
        BlocksConfig,
        MofDecodeConfig,
        MofEvaluateConfig,
        MofExperiment,
        MofPreprocessConfig,
        MofSampleConfig,
        TrainConfig,
        tiny_block_encoder,
        tiny_mofdiff,
    )

    train = TrainConfig(
        max_steps=200,
        batch_size=48,
        learning_rate=1e-3,
        warmup_steps=20,
        validate_every=100,
        checkpoint_every=100,
        ema_decay=0.99,
    )
    return MofExperiment(
        name="mofdiff_demo",
        stages=(*MOF_STAGES[:-1], "shipped", "report"),
        preprocess=MofPreprocessConfig(source="mof_demo", shard_size=32),
        blocks=BlocksConfig(model=tiny_block_encoder(), train=replace(train, max_steps=150)),
        model=tiny_mofdiff(),
        train=train,
        sample=MofSampleConfig(count=16, shard_size=8, batch_size=16, sampler=CoarseSamplerConfig(num_steps=50)),
        # the first framework that closes is taken: trials would take minutes
        decode=MofDecodeConfig(
            lookup=LookupConfig(num_tries=2, num_simple=0, num_passes=1), assemble=ChoicesConfig(trials=0)
        ),
        evaluate=MofEvaluateConfig(reference_limit=24, pores=PorosityConfig(refine_between=(0.0, 0.0))),
    )
