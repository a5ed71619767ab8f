"""CIF to coarse framework in CPU time: `pytest tests/benchmarks/bench_decompose.py -m benchmark -s`; MATGEN_DATA."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from matgen.crystal.cif import parse_cif
from matgen.errors import StructureError
from matgen.mof.block_library import BlockLibrary
from matgen.mof.building_block import BuildingBlock
from matgen.mof.decompose import decompose
from matgen.representations.coarse_framework import encode

pytestmark = [pytest.mark.benchmark, pytest.mark.data]


def sample(path: Path, count: int) -> list[str]:
    column = pq.read_table(path, columns=["cif"]).column(0)
    rows = np.random.default_rng(0).permutation(len(column))[:count]
    return [column[int(row)].as_py() for row in rows]


@pytest.mark.parametrize("name", ["qmof", "core_mof_2019_asr"])
def test_cif_to_coarse_framework(data_dir: Path, name: str) -> None:
    texts = sample(data_dir / f"{name}.parquet", 600)
    for block in decompose(parse_cif(sample(data_dir / "qmof.parquet", 1)[0])).blocks:
        assert block.identity  # imports are done
    spent: dict[str, float] = defaultdict(float)
    cut, blocks = 0, 0
    for text in texts:
        try:
            start = time.process_time()
            structure = parse_cif(text)
            read = time.process_time()
            spent["CIF to structure"] += read - start
            framework = decompose(structure)
            encode(framework)
            done = time.process_time()
            spent["structure to coarse framework"] += done - read
            for block in framework.blocks:
                assert block.identity
            spent["identities"] += time.process_time() - done
            cut, blocks = cut + 1, blocks + framework.num_blocks
        except StructureError:
            spent["structure to coarse framework"] += time.process_time() - read
    total = sum(spent.values())
    print(f"\n{name}: {len(texts)} CIFs, {cut} cut into {blocks} blocks, one core, CPU time")
    for part, seconds in spent.items():
        print(f"  {part:32s} {1000 * seconds / len(texts):7.2f} ms a MOF")
    print(f"  {'together':32s} {len(texts) / total:7.1f} MOFs/s")


def test_the_size_and_loading_of_a_large_library(tmp_path: Path, data_dir: Path) -> None:
    frameworks = []
    for text in sample(data_dir / "qmof.parquet", 60):
        try:
            frameworks.append(decompose(parse_cif(text)))
        except StructureError:
            continue
    few: list[BuildingBlock] = [block for framework in frameworks for block in framework.blocks]
    library = BlockLibrary.from_blocks(few, [f"mof-{i}" for i, f in enumerate(frameworks) for _ in f.blocks])
    library.save(tmp_path / "few.safetensors")
    size = (tmp_path / "few.safetensors").stat().st_size
    times = 40
    many = library.select(np.sort(np.repeat(np.arange(library.num_blocks), times)))
    many.save(tmp_path / "many.safetensors")
    start = time.process_time()
    loaded = BlockLibrary.load(tmp_path / "many.safetensors")
    first, last = loaded.block(0), loaded.block(loaded.num_blocks - 1)
    found = loaded.find(last.identity)
    seconds = time.process_time() - start
    per_block = (tmp_path / "many.safetensors").stat().st_size / loaded.num_blocks
    print(f"\n{library.num_blocks} blocks of {library.num_identities} identities: {size / 1e6:.2f} MB")
    print(f"{loaded.num_blocks} blocks: {per_block:.0f} bytes each, so 2,000,000 take {2e6 * per_block / 1e9:.2f} GB")
    print(f"mapped, two blocks read, one identity found ({len(found)} conformers) in {1000 * seconds:.1f} ms CPU")
    assert first.num_atoms and last.num_atoms
