"""SymmCD on MP-20: our default experiment, and the paper's own settings."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matgen.config import Experiment


def symmcd_mp20() -> "Experiment":
    """SymmCD on MP-20 (45,229 crystals of up to 20 atoms): our network and sampler"""
    from matgen.config import Experiment, PreprocessConfig, SampleConfig

    return Experiment(
        name="symmcd_mp20",
        preprocess=PreprocessConfig(source="mp_20"),
        sample=SampleConfig(count=10_000),
    )


def symmcd_mp20_paper() -> "Experiment":
    """SymmCD on MP-20 as published: 61 M network, marginal priors, 1000-step predictor-corrector"""
    from dataclasses import replace

    from matgen.config import SampleConfig, TrainConfig
    from matgen.diffusion.sampler import SamplerConfig
    from matgen.models.symmcd import paper_config

    return replace(
        symmcd_mp20(),
        name="symmcd_mp20_paper",
        model=paper_config(),
        train=TrainConfig(
            max_epochs=2000, batch_size=512, learning_rate=1e-3, warmup_steps=0, decay="constant", ema_decay=0.0
        ),
        sample=SampleConfig(count=10_000, sampler=SamplerConfig(num_steps=1000, corrector_steps=1)),
    )
