"""Every stage that an experiment names can be imported; what is not shipped is not run."""

import pytest

from cluster.run import Run
from experiments import generate_mof
from experiments.listing import EXPERIMENTS, find_experiment
from experiments.run import chosen_stages, stage_function
from experiments.shipped import shipped_mofs_stage


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_every_stage_has_a_function(name):
    experiment = find_experiment(name)
    for stage in experiment.stages:
        assert callable(stage_function(stage, experiment))


def test_frameworks_end_in_a_report():
    for name in ("mofdiff_demo", "mofdiff_qmof"):
        assert chosen_stages([], find_experiment(name).stages)[-1] == "report"


def test_a_checkpoint_that_is_not_shipped_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(generate_mof, "SHIPPED_MOF_CHECKPOINT", tmp_path / "nowhere")
    summary = shipped_mofs_stage(Run(experiment=find_experiment("mofdiff_demo"), out=tmp_path / "run"))
    assert summary["status"] == "not_run" and "no checkpoint is shipped" in summary["reason"]
    assert not (tmp_path / "run").exists()
