"""CIF and table reading rates in CPU time: `pytest tests/benchmarks/bench_cif.py -m benchmark -s`, MATGEN_DATA set."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gemmi
import pyarrow.parquet as pq
import pytest

from matgen.crystal.cif import parse_cif, write_cif
from matgen.crystal.structure import check
from matgen.sources.source import Source, open_source

pytestmark = [pytest.mark.benchmark, pytest.mark.data]


def best_rate(work: Callable[[], int], repeats: int = 5) -> float:
    """Items per CPU second, the best of some repeats: other processes can only slow one down."""
    best = 0.0
    for _ in range(repeats):
        start = time.process_time()
        count = work()
        best = max(best, count / (time.process_time() - start))
    return best


def each(function: Callable[[str], object], texts: list[str]) -> Callable[[], int]:
    def work() -> int:
        for text in texts:
            function(text)
        return len(texts)

    return work


def test_rates(data_dir: Path) -> None:
    cifs = pq.read_table(data_dir / "mp_20_val.parquet", columns=["cif"]).column(0).to_pylist()[:2000]
    structures = [parse_cif(text) for text in cifs]
    gemmi_only = best_rate(each(gemmi.cif.read_string, cifs))
    ours = best_rate(each(parse_cif, cifs))
    print(f"\nn = {len(cifs)} MP-20 structures, plain P1 CIF, one core, CPU time, best of 5")
    print(f"gemmi.cif.read_string (text to tokens, the floor)   {gemmi_only:9.0f} /s")
    ratio = f"{gemmi_only / ours:.1f} x the floor's time"
    print(f"parse_cif (checked Structure)                       {ours:9.0f} /s   {ratio}")

    def limits() -> int:
        for structure in structures:
            check(structure)
        return len(structures)

    def writing() -> int:
        for structure in structures:
            write_cif(structure)
        return len(structures)

    print(f"check (distances, elements, volume)                 {best_rate(limits):9.0f} /s")
    print(f"write_cif, P1                                       {best_rate(writing):9.0f} /s")


def test_expansion_rate() -> None:
    rows = [row for row in open_source("aflow") if row.structure is not None]
    texts = []
    for number in (14, 62, 166, 194, 225, 227):
        group = gemmi.SpaceGroup(gemmi.find_spacegroup_by_number(number).xhm())
        a, c, gamma = 6.0, 6.0 if number > 194 else 9.0, 120 if number in {166, 194} else 90
        cell = (
            f"_cell_length_a {a}\n_cell_length_b {a}\n_cell_length_c {c}\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
        )
        operations = "loop_\n_space_group_symop_operation_xyz\n" + "".join(
            f"'{op.triplet()}'\n" for op in group.operations()
        )
        columns = "loop_\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
        texts.append(
            f"data_x\n{cell}_cell_angle_gamma {gamma}\n{operations}{columns}Na 0 0 0\nCl 0.5 0.5 0.5\nO 0.1 0.2 0.3\n"
        )
    count = 100
    rate = best_rate(each(parse_cif, texts * count))
    print(f"\nn = {count * len(texts)} CIFs with {len(texts)} groups listed as operations (8 to 192): {rate:.0f} /s")
    print(f"(the embedded set has {len(rows)} readable prototypes)")


def test_memory_does_not_grow_with_rows(data_dir: Path) -> None:
    source: Source = open_source(data_dir / "mp_20_val.parquet")
    peaks = []
    for rows_per_shard in (1000, 8000):
        tracemalloc.start()
        rows = sum(1 for _ in source.read_shard(source.shards(rows_per_shard)[0]))
        peaks.append((rows, tracemalloc.get_traced_memory()[1] / 2**20))
        tracemalloc.stop()
    print(
        "\npeak of Python memory while streaming: " + ", ".join(f"{rows} rows {peak:.1f} MiB" for rows, peak in peaks)
    )
