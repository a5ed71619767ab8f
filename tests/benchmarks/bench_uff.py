"""CPU time of UFF4MOF: typing, energies at several batch sizes, relaxation by both engines.

python -m pytest -m benchmark tests/benchmarks/bench_uff.py -s
"""

import resource
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from matgen.crystal.structure import Structure
from matgen.mof.bonds import find_bonds
from matgen.relaxation.lammps import lammps_is_installed
from matgen.relaxation.uff_energy import UffBatch, UffConfig
from matgen.relaxation.uff_pairs import find_pairs
from matgen.relaxation.uff_relax import UffRelaxConfig, relax_frameworks
from matgen.relaxation.uff_terms import uff_terms
from matgen.relaxation.uff_typing import type_atoms
from tests.unit.relaxation.uff_cases import case, rattled

pytestmark = pytest.mark.benchmark

FACE_CENTRED = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])


def seconds(work, repeats: int) -> float:
    """CPU time of one call, with that of child processes that have ended."""
    before = time.process_time() + _children()
    for _ in range(repeats):
        work()
    return (time.process_time() + _children() - before) / repeats


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def mof5() -> Structure:
    """The conventional cell: 424 atoms."""
    primitive, _ = case("mof5")
    inverse = np.linalg.inv(FACE_CENTRED)
    grid = np.stack(np.meshgrid(*[range(-2, 3)] * 3), axis=-1).reshape(-1, 3) @ inverse
    inside = grid[((grid > -1e-9) & (grid < 1 - 1e-9)).all(axis=1)]
    frac = np.concatenate([primitive.frac_coords @ inverse + shift for shift in inside])
    numbers = np.tile(primitive.atomic_numbers, len(inside))
    return Structure(FACE_CENTRED @ primitive.lattice, frac - np.floor(frac), numbers)


def test_typing(mof5: Structure) -> None:
    bonds = find_bonds(mof5)
    typing = type_atoms(mof5, bonds)
    print(f"\nMOF-5, {mof5.num_atoms} atoms, n = 20, CPU ms")
    print(f"types and bond orders   {1e3 * seconds(lambda: type_atoms(mof5, bonds), 20):8.1f}")
    print(f"terms                   {1e3 * seconds(lambda: uff_terms(mof5, bonds, typing), 20):8.1f}")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_energy_per_atom(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU (not run)")
    torch.set_num_threads(1)
    names = ("mil53", "pillared", "mof74", "mof5", "uio66", "hkust1")
    made = [(rattled(case(name)[0], 0.02), uff_terms(*case(name))) for name in names]
    print(f"\nenergy, forces and stress, pairs kept, {device}: time per atom and evaluation, µs")
    for size in (1, 32, 256):
        structures, terms = zip(*[made[k % len(made)] for k in range(3, 3 + size)], strict=True)
        batch = UffBatch.of(terms, UffConfig(device=device))
        positions, lattices = batch.tensors(structures)
        lists = {id(t): find_pairs(s.cart_coords, s.lattice, t, 13.5) for s, t in made}
        batch.set_pairs([lists[id(t)] for t in terms])
        atoms, pairs = len(positions), len(batch.pair_first)

        def work(batch: UffBatch = batch, positions: Tensor = positions, lattices: Tensor = lattices) -> None:
            batch.evaluate(positions, lattices)[0].sum().item()

        work()
        clock = seconds if device == "cpu" else _wall
        cost = 1e6 * clock(work, 10 if size < 256 else 3) / atoms
        print(f"batch {size:4d}: {cost:8.2f}  ({atoms} atoms, {pairs} pairs)")


def _wall(work, repeats: int) -> float:
    torch.cuda.synchronize()
    before = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - before) / repeats


@pytest.mark.parametrize("engine", ["torch", "lammps"])
def test_relaxation_of_mof5(mof5: Structure, engine: str) -> None:
    if engine == "lammps" and not lammps_is_installed():
        pytest.skip("LAMMPS is not installed (not run)")
    torch.set_num_threads(1)
    bonds, results = find_bonds(mof5), []
    starts = {"as it is": mof5, "rattled": rattled(mof5)}
    for word, start in starts.items():
        config = UffRelaxConfig(engine=engine)
        cost = seconds(lambda s=start, c=config: results.append(relax_frameworks([s], [bonds], c)[0]), 1)
        last = results[-1]
        print(f"\nMOF-5 {word}, {engine}: {cost:.2f} CPU s, {last.num_steps} steps, {last.status}, {last.energy:.4f}")
