"""CPU time of CHGNet and of a relaxation: ours against chgnet's, reduced against full, batched against single.

python -m pytest -m benchmark tests/benchmarks/bench_relaxation.py -s
"""

import time
from collections.abc import Callable

import numpy as np
import pytest

from matgen.relaxation.mlip import CHGNetConfig, CHGNetPotential, load_chgnet
from matgen.relaxation.optimizer import RelaxConfig, relax
from matgen.relaxation.primitive import primitive_cell
from matgen.relaxation.reference_set import read_reference
from matgen.relaxation.symmetric import detect_operations, symmetrize

NUM = 100


def milliseconds(work: Callable[[], object], num: int) -> float:
    """CPU time of one unit of work, ms."""
    start = time.process_time()
    work()
    return (time.process_time() - start) / num * 1e3


@pytest.fixture(scope="module")
def crystals(data_dir):
    entries = read_reference([data_dir / "mp_20_val.parquet"])
    chosen = np.random.default_rng(0).permutation(len(entries))[:NUM]
    return [entries[k].structure for k in chosen]


@pytest.fixture(scope="module")
def symmetric(crystals):
    cells = []
    for crystal in crystals:
        _, rotations, translations = detect_operations(crystal, 0.01)
        cell = primitive_cell(crystal, rotations, translations, 0.05)
        cells.append((symmetrize(cell.structure, cell.symmetry), cell.symmetry))
    return cells


@pytest.mark.data
@pytest.mark.benchmark
def test_energy_forces_stress(crystals, symmetric):
    pytest.importorskip("chgnet")
    potential = CHGNetPotential(CHGNetConfig(device="cpu"))
    structures, maps = [s for s, _ in symmetric], [m for _, m in symmetric]
    few = crystals[:40]
    model = load_chgnet("0.3.0")
    converted = [crystal.to_pymatgen() for crystal in few]
    potential.energy_forces_stress(few[:4])
    theirs = milliseconds(lambda: [model.predict_structure(s) for s in converted], len(few))
    batched_theirs = milliseconds(lambda: model.predict_structure(converted, batch_size=16), len(few))
    single = milliseconds(lambda: [potential.energy_forces_stress([s]) for s in structures], NUM)
    full = milliseconds(lambda: potential.energy_forces_stress(structures), NUM)
    alone = milliseconds(
        lambda: [potential.energy_forces_stress([s], [m]) for s, m in zip(structures, maps, strict=True)], NUM
    )
    reduced = milliseconds(lambda: potential.energy_forces_stress(structures, maps), NUM)
    energy = milliseconds(lambda: potential.energy_forces_stress(structures, forces=False), NUM)
    atoms = np.mean([s.num_atoms for s in structures])
    print(f"\nenergy, forces, stress of {NUM} MP-20 crystals, {atoms:.1f} atoms in the mean, CPU ms each:")
    print(f"chgnet {theirs:.1f}, chgnet batched by 16 {batched_theirs:.1f} (n = {len(few)})")
    print(
        f"ours: full graphs single {single:.1f}, batched {full:.1f}; reduced single {alone:.1f}, batched {reduced:.1f}"
    )
    print(f"ours, energy only, full graphs, batched {energy:.1f}")


@pytest.mark.data
@pytest.mark.benchmark
def test_relaxation(crystals):
    pytest.importorskip("chgnet")
    potential = CHGNetPotential(CHGNetConfig(device="cpu"))
    results: list = []
    for batch_size in (1, 64):
        config = RelaxConfig(batch_size=batch_size)
        spent = milliseconds(lambda config=config: results.append(relax(crystals, potential, config)), NUM)
        steps = np.array([r.num_steps for r in results[-1]])
        share = np.mean([r.status == "converged" for r in results[-1]])
        print(
            f"\nrelaxation, n = {NUM}, {batch_size} side by side: {spent:.1f} CPU ms each, {steps.mean():.1f} steps in"
        )
        print(f"the mean, {np.percentile(steps, 95):.0f} at the 95th percentile, {share:.1%} converged")
    single, batched = results
    difference = max(abs(a.energy_per_atom - b.energy_per_atom) for a, b in zip(single, batched, strict=True))
    print(f"largest difference between single and batched: {difference:.2g} eV/atom")
