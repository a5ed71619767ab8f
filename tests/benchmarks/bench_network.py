"""Speed of training and sampling in crystals a CPU-second, beside the machine's own matrix products.

Run as `python tests/benchmarks/bench_network.py [threads]`, or `pytest -m benchmark tests/benchmarks/bench_network.py`.
CPU-seconds are of this process over all its threads; the share is executed floating-point operations a CPU-second over
those of a plain matrix product measured in between, so that other work on the machine matters less.
"""

import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from matgen.crystal.tables import symmetry_tables
from matgen.data.batch import BatchPlan, BatchPlanConfig, collate
from matgen.data.priors import Priors, SymmetryTables, build_priors
from matgen.data.records import Records
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.diffusion.sampler import SamplerConfig
from matgen.models.symmcd import SymmCD, SymmCDConfig, paper_config
from matgen.models.symmcd_sampling import SampleRequest

# Number of crystals of MP-20's training set by number of orbits, and by (common) space group, from 8,000 of them.
ORBITS = {1: 15, 2: 782, 3: 2791, 4: 1676, 5: 835, 6: 658, 7: 337, 8: 249, 9: 187, 10: 145, 11: 52, 12: 87, 13: 22}
ORBITS |= {14: 28, 15: 24, 16: 23, 17: 7, 18: 30, 19: 15, 20: 37}
GROUPS = {225: 1150, 139: 394, 12: 380, 62: 372, 194: 348, 166: 304, 63: 264, 221: 256, 123: 186, 15: 172, 14: 171}
GROUPS |= {2: 168, 216: 160, 164: 149, 129: 146, 189: 141, 1: 122, 71: 121, 38: 105, 148: 98, 11: 98, 227: 90, 5: 88}
# 64 crystals with 337 orbits and 2,985 ordered pairs
ISSUE_BATCH = {2: 10, 3: 18, 4: 13, 5: 6, 6: 5, 7: 3, 8: 2, 10: 1, 11: 1, 15: 1, 18: 1, 20: 3}
# 32 crystals with 123 orbits and 1,201 ordered pairs
REVERSE_BATCH = {2: 24, 3: 4, 10: 1, 13: 1, 20: 2}


def spread(counts: dict[int, int]) -> list[int]:
    return [value for value, count in counts.items() for _ in range(count)]


def made_up(num_orbits: list[int], tables: SymmetryTables) -> Records:
    """Random crystals with the given numbers of orbits; large ones get groups of low symmetry, as in the data."""
    rng = np.random.default_rng(0)
    share = np.array(list(GROUPS.values())) / sum(GROUPS.values())
    groups = rng.choice(list(GROUPS), len(num_orbits), p=share)
    by_size = np.argsort([-tables.num_operations[group] for group in groups], kind="stable")
    noisy_rank = np.argsort(np.argsort(np.asarray(num_orbits) + rng.normal(0, 2, len(num_orbits))))
    groups = groups[by_size][noisy_rank]
    offsets = np.append(0, np.cumsum(num_orbits))
    codes = [tables.site_symmetry_codes[g, rng.integers(tables.num_codes[g])] for g in np.repeat(groups, num_orbits)]
    lattice_k = rng.normal(np.array([0, 0, 0, 0, 0, 2.7]), 0.1, (len(groups), 6))
    return Records(
        space_group_number=groups.astype(np.int16),
        lattice_k=np.where(tables.lattice_mask[groups], lattice_k, tables.lattice_fixed[groups]),
        offsets=offsets.astype(np.int64),
        frac_coords=rng.random((offsets[-1], 3)),
        atomic_numbers=rng.integers(1, 95, offsets[-1]).astype(np.int16),
        site_symmetry=np.stack(codes).astype(np.int8),
        multiplicity=np.ones(offsets[-1], np.int16),
        ids=tuple(str(i) for i in range(len(groups))),
    )


def matrix_product_rate(repeats: int = 12) -> float:
    """GFLOP a CPU-second of a (2048 x 1024) (1024 x 1024) product in single precision."""
    a, b = torch.randn(2048, 1024), torch.randn(1024, 1024)
    a @ b
    start = time.process_time()
    for _ in range(repeats):
        a @ b
    return repeats * 2 * 2048 * 1024**2 / (time.process_time() - start) / 1e9


def train_steps(model: SymmCD, records: Records, batch_size: int, num_steps: int) -> tuple[float, float, float]:
    """CPU-seconds and GFLOP of a step, and the machine's rate measured in between."""
    operations = model.priors.num_operations.numpy()[records.space_group_number]
    plan = BatchPlan(
        records.num_orbits, operations, BatchPlanConfig(batch_size=batch_size, overhead_edges=10**6, max_edges=10**6), 0
    )

    def step(index: int) -> None:
        model.zero_grad()
        for part in plan.micro_batches(index):
            batch = collate(records, part.indices, part.row_ids)
            noise = CounterNoise(row_seed(0, batch.row_id))
            (model.loss(batch, model.process.draw_t(noise), noise).total * part.weight).backward()

    step(0)
    seconds, rates, work = 0.0, [], 0.0
    for index in range(num_steps):
        with FlopCounterMode(display=False) as counter:
            step(index)
        work += counter.get_total_flops() / 1e9
        start = time.process_time()
        step(index)
        seconds += time.process_time() - start
        rates.append(matrix_product_rate())
    return seconds / num_steps, work / num_steps, float(np.mean(rates))


def report_training(name: str, model: SymmCD, records: Records, batch_size: int, num_steps: int) -> None:
    seconds, work, rate = train_steps(model, records, batch_size, num_steps)
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(
        f"{name}: {size:.1f} M weights, batch {batch_size}, n = {num_steps} steps: "
        f"{batch_size / seconds:.1f} crystals a CPU-second, {work:.1f} GFLOP a step, "
        f"{100 * work / seconds / rate:.0f} % of {rate:.0f} GFLOP a CPU-second"
    )


def report_reverse_step(name: str, model: SymmCD) -> None:
    orbits = torch.tensor(spread(REVERSE_BATCH))
    rng = np.random.default_rng(1)
    groups = torch.from_numpy(rng.choice(list(GROUPS), len(orbits)))
    seeds = row_seed(0, torch.arange(len(orbits)))
    request = SampleRequest(seeds=seeds, space_group_number=groups, num_orbits=orbits)
    for corrector in (1, 0):
        sampler = SamplerConfig(num_steps=4, corrector_steps=corrector)
        model.sample(request, replace(sampler, num_steps=1))
        start = time.process_time()
        model.sample(request, sampler)
        seconds = (time.process_time() - start) / sampler.num_steps
        size = f"{len(orbits)} crystals, {int(orbits.sum())} orbits"
        print(f"{name}: reverse step of {1 + corrector} calls, {size}: {seconds:.2f} CPU-s")


@pytest.mark.benchmark
def test_network_speed() -> None:
    tables = SymmetryTables.from_arrays(symmetry_tables())
    mp20 = made_up(np.random.default_rng(2).permutation(spread(ORBITS)).tolist()[:2048], tables)
    issue = made_up(spread(ISSUE_BATCH), tables)
    priors: Priors = build_priors(mp20, tables)
    print(f"\n{torch.get_num_threads()} threads")
    small = SymmCD(SymmCDConfig(), priors)
    report_training("default network, MP-20's sizes", small, mp20, 256, 3)
    report_reverse_step("default network", small)
    large = SymmCD(paper_config(), priors)
    report_training("paper's network, 337 orbits", large, issue, 64, 2)
    report_training("paper's network, MP-20's sizes", large, mp20, 64, 2)
    report_reverse_step("paper's network", large)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    test_network_speed()
