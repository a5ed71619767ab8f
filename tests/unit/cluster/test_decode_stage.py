"""The stage decode as a campaign: a sample without a crystal has nulls, so that tables can be compared."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cluster.campaign import CampaignConfig, run_campaign
from cluster.decode import DecodeWork
from cluster.parts import Shard, write_part
from cluster.sample import SAMPLE_SCHEMA
from matgen.representations.decode import DecodeConfig

GOOD = [0.0, 0.0, 0.0, 0.0, 0.0, 4.2]
DEGENERATE = [-0.388, 0.0, 0.0, 0.0, -5.29, 6.104]  # angles that give no volume


def sample(sample_id: int, lattice_k: list[float]) -> dict[str, object]:
    return {
        "sample_id": sample_id,
        "seed": sample_id,
        "status": "ok",
        "reason": "",
        "space_group_number": 1,
        "num_orbits": 1,
        "lattice_k": lattice_k,
        "frac_coords": [0.1, 0.2, 0.3],
        "atomic_numbers": [11],
        "site_symmetry": np.zeros(15, dtype=int).tolist(),
        "template_letters": None,
    }


def test_a_sample_without_a_crystal_has_nulls_and_two_tables_of_it_are_equal(tmp_path: Path) -> None:
    samples = tmp_path / "samples.parquet"
    write_part(samples, [sample(0, GOOD), sample(1, DEGENERATE)], SAMPLE_SCHEMA, {})
    for name in ("one", "two"):
        run_campaign(
            DecodeWork(DecodeConfig()), [Shard(0, 2, str(samples))], tmp_path / name, CampaignConfig(progress=False)
        )
    one, two = (pq.read_table(tmp_path / name / "part-000000.parquet") for name in ("one", "two"))
    good, bad = one.to_pylist()
    assert (good["status"], bad["status"]) == ("ok", "bad_lattice")
    assert good["min_distance"] > 1.0 and bad["min_distance"] is None and bad["raw_min_ratio"] is None
    assert one.equals(two)
