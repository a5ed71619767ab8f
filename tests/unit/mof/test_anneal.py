"""Annealing: slopes against differences, named frameworks from centres that say nothing, what it gives up on."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from matgen.geometry.rotations import axis_angle_matrix, random_rotations
from matgen.mof.assemble import AssembleConfig, Assembly, AssemblyInput, assemble
from matgen.mof.assembly.anneal import AnnealConfig, anneal
from matgen.mof.assembly.bodies import Bodies, Contacts, Motion, Placement, find_contacts, make_bodies, pull, push
from matgen.mof.choices import ChoicesConfig, Grade, assemble_choices
from tests.unit.mof.conftest import cut, distances_of_pairs

Energy = Callable[[Placement], tuple[Motion, float]]


def scattered(name: str, seed: int) -> AssemblyInput:
    """Centres anywhere in the cell."""
    given = cut(name)
    return replace(given, frac_coords=np.random.default_rng(seed).random((given.num_blocks, 3)))


def displaced(name: str, off: float, seed: int) -> AssemblyInput:
    """Centres away from where they belong, by `off` Å an axis."""
    given = cut(name)
    shift = off * np.random.default_rng(seed).standard_normal((given.num_blocks, 3))
    return replace(given, frac_coords=given.frac_coords + shift @ np.linalg.inv(given.lattice))


def in_double(bodies: Bodies) -> Bodies:
    return replace(
        bodies,
        arm=bodies.arm.double(),
        half=bodies.half.double(),
        atoms=bodies.atoms.double(),
        closest=bodies.closest.double(),
    )


def placement(given: AssemblyInput, seed: int) -> Placement:
    rng = np.random.default_rng(seed)
    centres = given.frac_coords @ given.lattice + 1.5 * rng.standard_normal((given.num_blocks, 3))
    rotations = random_rotations(given.num_blocks, rng)
    return Placement(torch.as_tensor(centres)[None], rotations[None], torch.as_tensor(given.lattice)[None])


def moved(place: Placement, centres: torch.Tensor, turns: torch.Tensor, strain: torch.Tensor) -> Placement:
    stretch = torch.eye(3, dtype=torch.float64) + strain
    return Placement(
        place.centres @ stretch + centres, axis_angle_matrix(turns) @ place.rotations, place.lattice @ stretch
    )


def check_slopes(place: Placement, energy: Energy, seed: int) -> None:
    """Along random directions of centres, turns and strain, each against a central difference."""
    slopes, _ = energy(place)
    rng = np.random.default_rng(seed)
    zero = torch.zeros_like(place.centres)
    still = torch.zeros(1, 3, 3, dtype=torch.float64)
    step = 1e-5
    for at, slope in enumerate((slopes.centres, slopes.turns, slopes.strain)):
        way = torch.as_tensor(rng.standard_normal(slope.shape))
        ways = [zero, zero, still]
        ways[at] = step * way
        up, down = (energy(moved(place, *(sign * w for w in ways)))[1] for sign in (1.0, -1.0))
        expected = (up - down) / (2 * step)
        assert expected == pytest.approx(float((slope * way).sum()), rel=1e-4, abs=1e-4)
        assert abs(expected) > 1e-2


@pytest.mark.parametrize("name", ["mof5", "hkust1", "mil53"])
def test_slopes_of_a_push_are_those_of_its_energy(name: str) -> None:
    given = cut(name)
    bodies = in_double(make_bodies(given.blocks, 1.0))
    place = placement(given, 0)
    contacts = find_contacts(bodies, place)

    def energy(at: Placement) -> tuple[Motion, float]:
        slopes, over = push(bodies, at, contacts, 2.0)
        return slopes, float(over.square().sum())

    check_slopes(place, energy, 1)


@pytest.mark.parametrize(("name", "cap"), [("mof5", 50.0), ("mil53", 2.0)])
def test_slopes_of_a_pull_are_those_of_its_energy_while_the_assignment_stands(name: str, cap: float) -> None:
    given = cut(name)
    bodies = in_double(make_bodies(given.blocks, 0.8))
    place = placement(given, 0)
    count = len(bodies.metal)

    def free() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(1, count, dtype=torch.float64), torch.zeros(1, count, dtype=torch.float64)

    # an infinitely wide assignment is 1 / P everywhere, whatever the distances
    def energy(at: Placement) -> tuple[Motion, float]:
        slopes, squared = pull(bodies, at, 1e6, cap, free())
        return slopes, float(cap**2 * (torch.sqrt(1.0 + squared / cap**2) - 1.0).sum() / count)

    check_slopes(place, energy, 1)


@pytest.mark.parametrize(("name", "seed", "least"), [("hkust1", 3, 50), ("mil53", 0, 10)])
def test_no_pair_of_atoms_that_overlaps_is_missed(name: str, seed: int, least: int) -> None:
    """Of mil53, whose cell is short, those of blocks with their own images."""
    given = cut(name)
    bodies = make_bodies(given.blocks, 1.0)
    place = placement(given, seed)
    place = Placement(place.centres.float(), place.rotations.float(), place.lattice.float())
    contacts = find_contacts(bodies, place)
    _, over = push(bodies, place, contacts, 1.0)
    turned = (place.rotations[0, bodies.atom_block] @ bodies.atoms[..., None])[..., 0]
    atoms = turned + place.centres[0, bodies.atom_block]
    images = torch.cartesian_prod(*[torch.arange(-2.0, 3.0)] * 3)
    gap = atoms[:, None, None] - atoms[None, :, None] - images @ place.lattice[0]
    near = gap.norm(dim=-1)
    own = bodies.atom_block[:, None] == bodies.atom_block
    near[own, 62] = torch.inf  # a block does not push itself
    expected = (bodies.closest[..., None] - near).clamp(min=0.0) > 1e-4
    found = over > 1e-4
    if name == "mil53":
        expected &= own[..., None]
        found &= own[contacts.first, contacts.second]
    assert int(found.sum()) == int(expected.sum()) // 2 >= least


def test_each_start_has_the_contacts_that_it_has_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given = cut("mil53")
    bodies = make_bodies(given.blocks, 1.0)
    rng = np.random.default_rng(0)
    starts = [placement(given, seed) for seed in range(4)]
    strains = [torch.as_tensor(np.eye(3) + 0.1 * rng.standard_normal((3, 3))) for _ in starts]
    alone = [
        Placement(p.centres.float(), p.rotations.float(), (p.lattice @ strain).float())
        for p, strain in zip(starts, strains, strict=True)
    ]
    expected = [contact_set(find_contacts(bodies, place)) for place in alone]
    together = Placement(
        *(torch.cat([getattr(p, name) for p in alone]) for name in ("centres", "rotations", "lattice"))
    )
    together.lattice[2] = torch.nan  # gone astray: the others do not mind
    monkeypatch.setattr("matgen.mof.assembly.bodies._MAX_OWN_PAIRS", 300)
    found = contact_set(find_contacts(bodies, together))
    for start in (0, 1, 3):
        assert {row[1:] for row in found if row[0] == start} == {row[1:] for row in expected[start]}, start


def contact_set(contacts: Contacts) -> set[tuple[int, ...]]:
    columns = (contacts.start[:, None], contacts.first[:, None], contacts.second[:, None], contacts.image)
    return set(map(tuple, torch.cat(columns, dim=1).long().tolist()))


@pytest.mark.parametrize(("name", "off", "seed"), [("mof5", 1.5, 2), ("hkust1", 1.0, 1), ("mil53", None, 1)])
def test_named_frameworks_close_from_centres_far_off(name: str, off: float | None, seed: int) -> None:
    given = scattered(name, seed) if off is None else displaced(name, off, seed)
    made = assemble_choices([[given]], seed, ChoicesConfig())
    assert made.assembly.status == "ok", made.assembly.reason
    assert made.assembly.dimension == 3
    assert distances_of_pairs(made.assembly).max() < 0.5
    assert sorted(made.assembly.pairs.ravel().tolist()) == list(range(given.num_connections))
    (fixed,) = assemble([given], seeds=[seed])
    assert fixed.status != "ok"  # what moves no centres has no chance


def test_of_several_choices_the_one_that_fits_is_taken() -> None:
    given = scattered("mil53", 0)
    arms = [replace(b, connection_points=1.6 * b.connection_points) for b in given.blocks]
    wrong = replace(given, blocks=tuple(arms))  # its cut bonds are far too long
    made = assemble_choices([[wrong, given]], 0, ChoicesConfig(kept=1))
    assert (made.choice, made.assembly.status, made.num_tried) == (1, "ok", 2)
    alone = assemble_choices([[wrong]], 0, ChoicesConfig())
    assert (alone.assembly.status, alone.num_tried) == ("open", 2)
    assert "from closing" in alone.assembly.reason
    few = replace(given, blocks=given.blocks[:1], frac_coords=given.frac_coords[:1])
    unbalanced = assemble_choices([[few]], 0, ChoicesConfig())
    assert unbalanced.assembly.status == "infeasible" and "balance" in unbalanced.assembly.reason


@pytest.mark.parametrize(
    ("grades", "trials"), [([2, 0], 6), ([2, 1, 1, 2], 6), ([0], 6), ([2, 1], 2), ([2], 1), ([], 0)]
)
def test_choices_follow_until_one_stands_its_trial(grades: list[int], trials: int) -> None:
    """The first is tried with fixed centres, then all three are annealed."""
    given = cut("hkust1")
    config = ChoicesConfig(trials=trials)
    asked: list[Assembly] = []

    def trial(made: Assembly) -> Grade:
        asked.append(made)
        return Grade(grades[len(asked) - 1])

    made = assemble_choices([[given, given, given]], 0, config, trial)
    assert len(asked) == made.num_trials == len(grades)
    assert made.grade == min(grades, default=Grade.NOT_RUN)
    assert made.assembly.status == "ok" and made.assembly.dimension == 3
    if asked:
        assert made.assembly is asked[grades.index(min(grades))]


def test_annealing_depends_on_its_seed_alone() -> None:
    given = scattered("mil53", 0)
    config = AnnealConfig(steps=150, rounds=1, steps_again=60)
    runs = [list(anneal(given, np.random.default_rng(seed), config)) for seed in (4, 4, 5)]
    places = [[state.given.frac_coords for states in run for state in states] for run in runs]
    assert len(places[0]) == len(places[1]) > 0
    assert all(np.array_equal(a, b) for a, b in zip(places[0], places[1], strict=True))
    assert len(places[2]) != len(places[0]) or not np.array_equal(places[2][0], places[0][0])


def test_what_is_mostly_open_is_given_up_after_a_round() -> None:
    given = scattered("uio66", 0)
    config = AnnealConfig(steps=2, hopeless=0.01)
    assert len(list(anneal(given, np.random.default_rng(0), config))) == 1


@pytest.mark.parametrize("settings", [{"steps": 0}, {"look_again": 0}, {"starts": -1}, {"finished": 0}])
def test_settings_without_a_step_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        AnnealConfig(**settings)
    with pytest.raises(ValueError, match="race"):
        ChoicesConfig(race_steps=0)
    with pytest.raises(ValueError, match="searches"):
        AssembleConfig(num_searches=1)


def test_a_start_that_collapses_keeps_a_cell() -> None:
    given = cut("mil53")
    small = replace(given, lattice=0.3 * given.lattice)
    config = AnnealConfig(starts=4, steps=30, rounds=0, strain_rate=0.2)
    (states,) = anneal(small, np.random.default_rng(0), config)
    assert all(np.isfinite(state.given.lattice).all() for state in states)
    assert min(1.0 / np.linalg.norm(np.linalg.inv(s.given.lattice), axis=0).max() for s in states) > 0.5
    assert all(np.allclose(s.rotations @ s.rotations.transpose(0, 2, 1), np.eye(3), atol=1e-12) for s in states)


def test_a_later_tier_of_choices_is_for_what_does_not_close() -> None:
    given = scattered("mil53", 0)
    wrong = replace(given, blocks=tuple(replace(b, connection_points=1.6 * b.connection_points) for b in given.blocks))
    made = assemble_choices([[wrong], [wrong, given]], 0, ChoicesConfig())
    assert (made.choice, made.assembly.status) == (2, "ok")
    still = assemble_choices([[wrong], [given]], 0, ChoicesConfig().with_centres_kept())
    assert still.choice == 0 and not still.assembly.closed, "where nothing may move there is one tier"
    first = assemble_choices([[given], [wrong]], 0, ChoicesConfig())
    assert (first.choice, first.assembly.status) == (0, "ok")
