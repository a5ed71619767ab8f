"""Self-assembly in CPU time: `pytest tests/benchmarks/bench_assembly.py -m benchmark -s`, MATGEN_DATA set, 1 thread."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from matgen.crystal.cif import parse_cif
from matgen.errors import StructureError
from matgen.mof.assemble import AssembleConfig, AssemblyInput, assemble, reorient
from matgen.mof.assembly.finish import FinishConfig
from matgen.mof.assembly.gradient import GradientConfig, gradient_start
from matgen.mof.assembly.pairs import candidate_pairs
from matgen.mof.assembly.search import search
from matgen.mof.decompose import decompose

pytestmark = [pytest.mark.benchmark, pytest.mark.data]


@pytest.fixture(scope="module")
def inputs(data_dir: Path) -> list[AssemblyInput]:
    table = pq.read_table(data_dir / "qmof.parquet", columns=["cif"])
    chosen = np.random.default_rng(0).choice(table.num_rows, 60, replace=False)
    given = []
    for row in chosen:
        try:
            framework = decompose(parse_cif(table["cif"][int(row)].as_py()))
        except StructureError:
            continue
        whole = AssemblyInput(framework.lattice, framework.frac_coords, framework.blocks)
        given.append(reorient(whole, np.random.default_rng(int(row)))[0])
    return given


def test_search_alone_and_with_contacts(inputs: list[AssemblyInput]) -> None:
    config = AssembleConfig()
    connections = [given.num_connections for given in inputs]
    print(
        f"\nn = {len(inputs)} QMOF frameworks, {np.median(connections):.0f} connections (median), CPU s each, 1 thread"
    )
    tables = [candidate_pairs(given, config.exact.reach) for given in inputs]
    for starts in (1, 4, 16):
        settings = replace(config.exact, starts=starts, repair_rounds=0)
        begun, closed = time.process_time(), 0
        for at, table in enumerate(tables):
            found = search([table], [np.random.default_rng(at)], settings, torch.device("cpu"))[0]
            closed += found[0].num_open == 0
        seconds = (time.process_time() - begun) / len(tables)
        print(f"search, {starts:2d} starts (small: more), no repair {seconds:6.3f} s   closed {closed}/{len(tables)}")
    closing = replace(
        config, finish=replace(FinishConfig(), settle=replace(config.finish.settle, solutions=1, starts=0))
    )
    sparing = replace(closing, exact=replace(config.exact, small_starts=1))
    for name, settings in (
        ("closing alone, 16 starts (the default: 16 to 64)", sparing),
        ("closing alone, all starts", closing),
        ("assemble, with search among free turns", config),
    ):
        begun = time.process_time()
        made = assemble(inputs, settings, list(range(len(inputs))))
        seconds = (time.process_time() - begun) / len(inputs)
        print(f"{name:49s} {seconds:6.3f} s   closed {sum(one.closed for one in made)}/{len(inputs)}")


def test_gradient_baseline(inputs: list[AssemblyInput]) -> None:
    small = [given for given in inputs if given.num_connections <= 48][:10]
    begun, closed = time.process_time(), 0
    for at, given in enumerate(small):
        table = candidate_pairs(given, 0.15)
        closed += gradient_start(table, np.random.default_rng(at), GradientConfig()).num_open == 0
    seconds = (time.process_time() - begun) / len(small)
    print(f"\ngradient descent on the annealed objective, one start   {seconds:6.3f} s   closed {closed}/{len(small)}")
