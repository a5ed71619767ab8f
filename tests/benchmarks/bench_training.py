"""Training throughput of the default network: crystals per CPU-second by micro-batch cost, against padding all alike.

Run: python tests/benchmarks/bench_training.py RECORDS_DIR [steps]  (RECORDS_DIR: what the stage preprocess leaves)
Figures are per process-CPU-second of one thread, so that a busy machine does not change them much.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from matgen.data.batch import collate
from matgen.models.symmcd import SymmCDConfig
from matgen.training.crystals import CrystalSet
from matgen.training.loop import Trainer
from matgen.training.run import PlainRun, make_trainer
from matgen.training.state import TrainConfig
from matgen.training.step import Workers, train_step


def timed(work, repeats: int) -> float:
    """CPU seconds of one call, the best of `repeats`."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def step_seconds(trainer: Trainer, steps: int) -> tuple[float, float, int]:
    """CPU seconds of data and of the step itself, and micro-batches a step."""
    data, compute, micro = 0.0, 0.0, 0
    for step in range(steps + 1):
        began = time.process_time()
        batches = trainer._make(step)
        made = time.process_time()
        train_step(trainer.state, trainer.loss_module, batches, trainer.dataset, trainer.config, trainer.workers, 1e-4)
        if step:  # the first one warms up
            data, compute, micro = data + made - began, compute + time.process_time() - made, micro + len(batches)
    return data / steps, compute / steps, micro // steps


def main(records: Path, steps: int) -> None:
    """Print one line per setting."""
    torch.set_num_threads(1)
    base = TrainConfig(batch_size=256, max_steps=10_000)
    out = Path("/nonexistent")
    for overhead in (0, 300, 3000, 10**9):
        config = replace(base, overhead_edges=overhead, max_edges=10**9 if overhead == 10**9 else base.max_edges)
        trainer = make_trainer(records, out, PlainRun(model=SymmCDConfig(), train=config), workers=Workers())
        data, compute, micro = step_seconds(trainer, steps)
        dataset = trainer.dataset
        assert isinstance(dataset, CrystalSet)
        edges = np.mean([(dataset.train.num_orbits[dataset.plan.indices(s)] ** 2).sum() for s in range(1, steps + 1)])
        print(
            f"overhead_edges={overhead:>10}: {micro:2d} micro-batches, {256 / (data + compute):6.1f} crystals/CPU-s, "
            f"data {100 * data / (data + compute):.1f} %, {edges:.0f} edges a step, n = {steps} steps of 256"
        )
    indices = dataset.plan.indices(0)
    seconds = timed(lambda: collate(dataset.train, indices), 20)
    planning = timed(lambda: dataset.plan.micro_batches(5), 20)
    print(f"collate: {256 / seconds:,.0f} crystals/CPU-s; plan: {256 / planning:,.0f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
