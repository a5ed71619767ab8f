"""Find the noise schedules, embedding sizes and rates with which SymmCD samples best.

    python sweeps/tune_symmcd.py                                      minutes on a laptop, embedded crystals
    python sweeps/tune_symmcd.py --experiment symmcd_mp20 --trials 200 --workers-per-trial 2 --gpus-per-worker 1 \\
        --out DIR --address auto                                      a cluster
    python sweeps/tune_symmcd.py --resume DIR                         after anything
    matgen run --config DIR/best.json train                           the winner, as an experiment
"""

import sys

from sweeps.arguments import Defaults
from sweeps.budget import BudgetConfig
from sweeps.command import main
from sweeps.journal import ConfirmConfig, SweepConfig

DEFAULTS = Defaults(
    subject="symmcd",
    experiment="symmcd_demo",
    config=SweepConfig(
        space="demo",
        trials=8,
        budget=BudgetConfig(amount=9_000, num_rungs=3),
        samples=48,
        baselines=("paper",),
        confirm=ConfirmConfig(top=2, samples=96),
    ),
    out="sweeps-out/symmcd_demo",
    large=SweepConfig(
        space="schedules_embeddings",
        trials=50,
        budget=BudgetConfig(amount=2_000_000, num_rungs=4),
        samples=512,
        baselines=("paper",),
        confirm=ConfirmConfig(top=3, samples=2048, seeds=2),
    ),
)

if __name__ == "__main__":
    sys.exit(main(DEFAULTS, __doc__ or ""))
