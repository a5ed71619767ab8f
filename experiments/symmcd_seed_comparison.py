"""The seed comparison: free samples against samples from training templates, from one checkpoint."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matgen.config import Experiment

STAGES = ("preprocess", "free", "templates", "compare", "report")


def symmcd_seed_comparison() -> "Experiment":
    """Free samples against samples from templates of the training set: are both diverse, is only the free one novel?"""
    from matgen.config import Experiment, PreprocessConfig, SampleConfig

    return Experiment(
        name="symmcd_seed_comparison",
        stages=STAGES,
        preprocess=PreprocessConfig(source="mp_20"),
        sample=SampleConfig(count=10_000),
    )
