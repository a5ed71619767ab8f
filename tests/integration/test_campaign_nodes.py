"""A campaign on a Ray whose nodes come and go: what joins shares the work, what leaves costs the pieces it held."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from waiting import until

from cluster.parts import part_paths
from cluster.session import prepare_environment

CAMPAIGN = """
import sys
from pathlib import Path
from campaign_works import OneByOneWork
from cluster.campaign import CampaignConfig, run_campaign
from cluster.parts import Shard
shards = [Shard(index, 10, index * 10) for index in range(12)]
config = CampaignConfig(num_workers=1, progress=False, row_deadline_s=300.0)
work = OneByOneWork(seconds=0.5, wait_from=40, wait_file=sys.argv[2])
done = run_campaign(work, shards, Path(sys.argv[1]), config)
print(done.num_rows, done.status, done.num_timeouts)
"""


def while_running(process: "subprocess.Popen[str]", condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds, which must be before the process ends."""

    def holds() -> bool:
        if condition():
            return True
        assert process.poll() is None, f"the campaign ended before {what}: {process.communicate()}"
        return False

    until(holds, 120, lambda: what)


@pytest.mark.slow
def test_a_node_that_joins_shares_a_running_campaign_and_one_that_leaves_costs_its_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # the default of 15 starves on a machine that does other things, too
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    prepare_environment()  # the nodes' token
    out, joined = tmp_path / "parts", tmp_path / "joined"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})

    def seen() -> dict[str, int]:
        path = next(out.glob(".campaign-*.json"), None)
        if path is None:
            return {"rows": 0}
        state = json.loads(path.read_text())
        return {"rows": state["rows"], **state["workers"]}

    campaign = subprocess.Popen(
        [sys.executable, "-c", CAMPAIGN, str(out), str(joined)],
        env={**os.environ, "RAY_ADDRESS": cluster.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while_running(campaign, lambda: seen().get("busy") == 1 and seen()["rows"] > 0, "work of one actor")
        node = cluster.add_node(num_cpus=1)
        while_running(campaign, lambda: seen().get("busy") == 2, "work of two actors")
        joined.touch()  # until now the work could not end, however long a node takes to come
        both = seen()["rows"]
        while_running(campaign, lambda: seen()["rows"] >= both + 10, "rows of both")
        cluster.remove_node(node, allow_graceful=False)
        said, error = campaign.communicate(timeout=240)
    finally:
        campaign.kill()
        cluster.shutdown()
    assert campaign.returncode == 0, error
    assert said.splitlines()[-1] == "120 {'ok': 120} 0"
    rows = [row for path in part_paths(out) for row in pq.read_table(path).to_pylist()]
    assert [row["sample_id"] for row in rows] == list(range(120))
    assert all(row["square"] == row["sample_id"] ** 2 for row in rows)
