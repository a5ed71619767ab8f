"""Speed of encoding and decoding, in crystals per CPU-second of one process.

Run: MATGEN_DATA=folder OMP_NUM_THREADS=1 python -m pytest tests/benchmarks/bench_symmetry.py -m benchmark -s
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matgen.crystal.cif import parse_cif
from matgen.crystal.tables import load_tables
from matgen.representations.asymmetric_unit import AsymmetricUnit, encode_many
from matgen.representations.decode import decode

pytestmark = [pytest.mark.benchmark, pytest.mark.data]
COUNT = 2000


def cpu(action):
    started = time.process_time()
    result = action()
    return result, time.process_time() - started


def read_cifs():
    import pyarrow.parquet as pq

    root = os.environ.get("MATGEN_DATA", "")
    if not Path(root, "mp_20_val.parquet").is_file():
        pytest.skip("MATGEN_DATA has no mp_20_val.parquet (not run)")
    texts = pq.read_table(Path(root, "mp_20_val.parquet"), columns=["cif"])["cif"].to_pylist()
    order = np.random.default_rng(0).permutation(len(texts))[:COUNT]
    return [texts[i] for i in order]


def test_encode_and_decode():
    _, load = cpu(lambda: load_tables.__wrapped__())
    print(f"\ntables: {1e3 * load:.1f} ms")
    texts = read_cifs()
    structures, parse = cpu(lambda: [parse_cif(text) for text in texts])
    encode_many(structures[:50])
    results, seconds = cpu(
        lambda: [unit for i in range(0, COUNT, 250) for unit in encode_many(structures[i : i + 250])]
    )
    units = [unit for unit in results if isinstance(unit, AsymmetricUnit)]
    orbits = sum(unit.num_orbits for unit in units)
    print(f"CIF text -> structure:            {COUNT / parse:8.0f} /s   (n = {COUNT})")
    print(f"structure -> asymmetric unit:     {COUNT / seconds:8.0f} /s   ({len(units)} ok, {orbits} orbits)")
    print(f"CIF text -> asymmetric unit:      {COUNT / (parse + seconds):8.0f} /s   (aim: 400)")
    rng = np.random.default_rng(0)
    for noise in (0.0, 0.02, 0.1, 0.5):
        noisy = [replace(u, frac_coords=u.frac_coords + noise * rng.normal(size=u.frac_coords.shape)) for u in units]
        crystals, seconds = cpu(lambda noisy=noisy: decode(noisy))
        clash = np.mean([crystal.raw_clash for crystal in crystals])
        left = np.mean([crystal.status != "ok" for crystal in crystals])
        print(
            f"decode, coordinate noise {noise:4.2f}:    {len(units) / seconds:8.0f} /s   (aim: 2000; "
            f"{100 * clash:.1f} % clash as projected, {100 * left:.1f} % in the end)"
        )
