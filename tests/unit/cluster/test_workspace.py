"""The W&B workspace as code: it is built without a network, and plots what campaigns log."""

import re
from pathlib import Path

import pytest

from cluster import progress
from cluster.parts import Shard
from cluster.pieces import Report
from cluster.progress import Tally
from cluster.workspace import PICTURES, SECTIONS, YIELDS, build_workspace


def test_it_plots_what_a_campaign_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: set[str] = set()
    monkeypatch.setattr(progress, "TRACK_AFTER_S", 0.0)
    monkeypatch.setattr(progress, "TRACK_EVERY_S", 0.0)
    monkeypatch.setattr("cluster.tracking.Tracker.log", lambda _, metrics, step: logged.update(metrics))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    shards = [Shard(0, 10, None)]
    tally = Tally(tmp_path, "decode", shards, shards, shows_bar=False, tracker_id="run-1-decode")
    tally.add(Report(10, {"ok": 8, "clash": 2}, {"clash: # Å between atoms # and #": 2}, 3.0))
    tally.beat()
    tally.close(finished=True)
    plotted = {metric for _, metric in SECTIONS["Campaigns"]}
    assert plotted <= logged
    assert all(any(re.search(regex, name) for _, regex in YIELDS) for name in logged - plotted)


def test_it_is_built_without_a_network() -> None:
    pytest.importorskip("wandb_workspaces", reason="not run: wandb-workspaces is absent")
    workspace = build_workspace("someone", "matgen")
    assert [section.name for section in workspace.sections] == [*SECTIONS, "Pictures"]
    assert [len(section.panels) for section in workspace.sections] == [4, 6 + len(YIELDS), len(PICTURES)]
