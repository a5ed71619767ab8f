"""Energies above a hull that the samples were never held against must not be reported."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.evaluate import hull_words
from cluster.populations import SampledPopulation
from cluster.run import Run
from experiments.symmcd_mp20 import symmcd_mp20
from matgen.errors import StageError


def run_with(hull: str, tmp_path: Path) -> Run:
    experiment = symmcd_mp20()
    return Run(experiment=replace(experiment, relax=replace(experiment.relax, hull=hull)), out=tmp_path)


def samples_of(hull: str, has_energies: bool = True) -> SampledPopulation:
    return cast(Any, SimpleNamespace(hull=hull, has_energies=has_energies))


def test_another_hull_than_the_one_of_relaxation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="relaxed with no hull, not with late"):
        hull_words(run_with("late", tmp_path), samples_of(""))


def test_without_a_hull_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert hull_words(run_with("", tmp_path), samples_of("")) is None
    assert hull_words(run_with("unused", tmp_path), samples_of("", has_energies=False)) is None
