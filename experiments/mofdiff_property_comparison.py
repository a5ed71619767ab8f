"""The property comparison: latents moved, latents drawn given a target, and random ones, from one checkpoint."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matgen.mof_config import MofExperiment

STAGES = ("latent", "conditional", "random", "compare")


def mofdiff_property_comparison() -> "MofExperiment":
    """Void fraction after assembly: latents optimised, drawn given the target, and random; needs --checkpoint DIR"""
    from matgen.mof.choices import ChoicesConfig
    from matgen.mof_config import MofDecodeConfig, MofExperiment, MofOptimizeConfig, MofRelaxConfig, MofSampleConfig

    return MofExperiment(
        name="mofdiff_property_comparison",
        stages=STAGES,
        sample=MofSampleConfig(count=512, shard_size=32, batch_size=32),
        optimize=MofOptimizeConfig(property="void_fraction", target=0.8),
        # a trial picks frameworks with pores, whichever way they were drawn
        decode=MofDecodeConfig(assemble=ChoicesConfig(trials=0)),
        relax=MofRelaxConfig(limit=0),
    )
