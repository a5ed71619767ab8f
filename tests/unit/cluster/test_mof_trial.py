"""Frameworks on trial: a real one stands it, one without pores and one that nothing holds do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cluster.mof_trial import FrameworkTrial
from matgen.evaluation.porosity import Porosity
from matgen.mof.assemble import Assembly, assemble
from matgen.mof.choices import Grade
from matgen.mof_config import TrialConfig
from tests.unit.mof.conftest import cut


@pytest.fixture(scope="module")
def mof5() -> Assembly:
    (made,) = assemble([cut("mof5")])
    assert made.status == "ok"
    return made


def test_a_framework_with_pores_stands_its_trial(mof5: Assembly) -> None:
    pytest.importorskip("pyzeo")
    assert FrameworkTrial(TrialConfig())(mof5) is Grade.SOUND


def test_pores_can_be_too_narrow(mof5: Assembly) -> None:
    """MOF-5's windows are some 8 Å wide."""
    pytest.importorskip("pyzeo")
    assert FrameworkTrial(TrialConfig(least_pore_limiting_diameter=6.0))(mof5) is Grade.SOUND
    assert FrameworkTrial(TrialConfig(least_pore_limiting_diameter=10.0))(mof5) is Grade.NO_PORES


def test_what_does_not_survive_relaxation_is_unstable(mof5: Assembly) -> None:
    """Of seven blocks of MOF-5 one, alone in half of its cell: nothing holds it open."""
    alone = Assembly("ok", "", 0.5 * np.asarray(mof5.lattice), mof5.frac_coords[-1:], mof5.blocks[-1:], np.eye(3)[None])
    assert FrameworkTrial(TrialConfig(least_pore_limiting_diameter=0.0))(alone) is Grade.UNSTABLE
    assert FrameworkTrial(TrialConfig(max_atoms=alone.num_atoms - 1))(alone) is Grade.NOT_RUN, "too large for a trial"


def test_without_pyzeo_pores_are_not_asked_for(
    mof5: Assembly, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("matgen.evaluation.porosity.importlib.util.find_spec", lambda name: None)
    trial = FrameworkTrial(TrialConfig(least_pore_limiting_diameter=10.0))
    assert "pyzeo" in caplog.text
    assert trial(mof5) is Grade.NOT_RUN


def test_faults_of_atoms_are_found(mof5: Assembly) -> None:
    """MOF-5 with fluorine for hydrogen is stable, but a framework has hydrogen."""
    blocks = tuple(replace(b, atomic_numbers=np.where(b.atomic_numbers == 1, 9, b.atomic_numbers)) for b in mof5.blocks)
    bare = replace(mof5, blocks=blocks)
    assert FrameworkTrial(TrialConfig())(bare) is Grade.FAULTY
    assert FrameworkTrial(TrialConfig(checks=False, least_pore_limiting_diameter=0.0))(bare) is Grade.SOUND


def test_what_fails_by_itself_is_no_verdict_on_pores(mof5: Assembly, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyzeo")
    trial = FrameworkTrial(TrialConfig())
    monkeypatch.setattr(trial.pores, "measure", lambda structure: Porosity(status="timeout", reason="too long"))
    assert trial(mof5) is Grade.NOT_RUN

    def singular(*arguments: object) -> None:
        raise torch.linalg.LinAlgError("singular")

    monkeypatch.setattr("cluster.mof_trial.relax_frameworks", singular)
    assert trial(mof5) is Grade.UNSTABLE


@pytest.mark.parametrize("wrong", [{"least_pore_limiting_diameter": float("nan")}, {"max_atoms": -1}])
def test_settings_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need least_pore"):
        TrialConfig(**wrong)  # type: ignore[arg-type]
