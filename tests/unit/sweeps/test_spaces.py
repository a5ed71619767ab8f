"""Spaces are typed against the experiment: what does not exist is refused before the first trial."""

from dataclasses import replace

import pytest

from experiments.mofdiff_demo import mofdiff_demo
from experiments.symmcd_demo import symmcd_demo
from experiments.symmcd_mp20 import symmcd_mp20
from matgen.errors import ConfigError
from sweeps.schedulers import check_population
from sweeps.search import default_values
from sweeps.spaces import Space, choice, find_space, log_uniform, presets, uniform
from sweeps.subjects import subject_of
from sweeps.symmcd_spaces import PAPER_LOSSES, PAPER_NETWORK, POPULATION, SCHEDULES, SPACES


@pytest.mark.parametrize("subject", ["symmcd", "block_encoder", "mofdiff"])
def test_every_space_and_baseline_fits_its_experiments(subject: str) -> None:
    known = subject_of(subject)
    experiments = [symmcd_demo(), symmcd_mp20()] if subject == "symmcd" else [mofdiff_demo()]
    for experiment in experiments:
        for space in known.spaces:
            space.check(experiment)
        for baseline in known.baselines.values():
            changed = baseline(experiment)
            assert known.model(changed) != known.model(experiment)
            assert known.train(changed) == known.train(experiment)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (choice("model.network.hiden", 1), "did you mean model.network.hidden"),
        (choice("model.netwrk.hidden", 1), "no settings at 'model.netwrk'"),
        (choice("train.batch_size", 32, "many"), "train.batch_size: expected int"),
        (uniform("train.learning_rate", 2, 1), "is no interval"),
        (log_uniform("train.learning_rate", 0, 1), "is no interval"),
        (choice("train.learning_rate"), "no value to choose from"),
        (choice("model.process.species.schedule.num_steps", 5), "must have the same num_steps"),
        (presets("odd", {"x": {"model.process.species.schedule.reach": 2.0}}), r"reach must be in \(0, 1\]"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(parameter: object, message: str) -> None:
    space = Space(name="bad", summary="", parameters=(parameter,))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        space.check(symmcd_demo())


def test_an_empty_space_and_an_unknown_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="is empty"):
        Space(name="nothing", summary="", parameters=()).check(symmcd_demo())
    with pytest.raises(ConfigError, match="unknown space 'shedules'"):
        find_space("shedules", SPACES)


def test_a_first_point_must_lie_in_the_space() -> None:
    with pytest.raises(ConfigError, match=r"no parameter 'model\.network\.latent'"):
        replace(SCHEDULES, first=({"model.network.latent": 1},)).check(symmcd_demo())


def test_a_part_of_a_space_keeps_its_first_points() -> None:
    part = SCHEDULES.only(["schedule.species", "num_steps"])
    assert part.names == ("schedule.species", "num_steps")
    assert part.first == tuple({"schedule.species": point["schedule.species"]} for point in SCHEDULES.first)
    part.check(symmcd_mp20())
    assert SCHEDULES.only(["num_steps"]).first == ()


def test_settings_that_only_go_together_are_set_together() -> None:
    experiment = SCHEDULES.apply(symmcd_mp20(), {"num_steps": 250, "schedule.species": "linear"})
    process = experiment.model.process
    assert process.num_steps == 250
    assert process.coords.sigmas.num_steps == process.site_symmetry.schedule.num_steps == 250
    assert (process.species.schedule.kind, process.species.schedule.reach) == ("linear", 1.0)
    assert process.lattice.schedule.kind == symmcd_mp20().model.process.lattice.schedule.kind


def test_defaults_of_the_experiment_are_found_in_the_space() -> None:
    from matgen.settings import to_dict

    found = default_values(SCHEDULES, to_dict(symmcd_mp20()))
    process = symmcd_mp20().model.process
    assert found["num_steps"] == 1000
    assert found["schedule.species"] == f"cosine {process.species.schedule.reach:g}"
    assert found["schedule.site_symmetry"] == f"cosine {process.site_symmetry.schedule.reach:g}"
    assert SCHEDULES.apply(symmcd_mp20(), found) == symmcd_mp20()


def test_the_papers_own_sweep_is_there() -> None:
    assert (PAPER_LOSSES.size, PAPER_LOSSES.search) == (125, "grid")
    assert (PAPER_NETWORK.size, PAPER_NETWORK.search) == (4 * 3 * 3 * 2 * 3, "random")


def test_a_population_changes_no_network() -> None:
    check_population(POPULATION)
    with pytest.raises(ConfigError, match=r"cannot change 'schedule\.lattice'"):
        check_population(SCHEDULES)
