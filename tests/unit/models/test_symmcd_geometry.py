"""Guides of the sampler: crowded orbits are drawn anew, and sites far from an orbit are not drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cluster.sample import site_misfits_of
from matgen.crystal.wyckoff import site_misfits
from matgen.diffusion.fields import Fields
from matgen.diffusion.sampler import SamplerConfig
from matgen.models.symmcd_geometry import GeometryGuide
from matgen.nn.cspnet import Prediction
from tests.unit.models.test_symmcd import DEFAULT, GROUPS, ORBITS, PAPER, invalid_codes, model_of, request_of


def test_orbits_on_top_of_each_other_are_seen_in_the_estimate_of_the_clean_crystal(priors):
    model = model_of(DEFAULT, priors)
    group, mask, t = torch.tensor([1]), torch.ones(1, 3, dtype=torch.bool), torch.tensor([500])
    state = Fields(
        lattice_k=torch.zeros(1, 6),
        frac_coords=torch.tensor([[[0.1, 0.2, 0.3], [0.1, 0.2, 0.34], [0.6, 0.7, 0.9]]]),
        species_index=torch.zeros(1, 3, dtype=torch.int64),
        site_symmetry=torch.zeros(1, 3, 15, dtype=torch.int64),
    )
    sampler = SamplerConfig(relocate_below=0.9)
    still = Prediction(torch.zeros(1, 6), torch.zeros(1, 3, 3), torch.zeros(1, 3, 94), torch.zeros(1, 3, 15, 13))
    guide = GeometryGuide(model.process, model.groups, sampler, group, mask, None)
    assert guide.crowded(state, still, t).tolist() == [[False, True, False]]
    scale = model.process.coords.unscale(torch.ones(1, 3, 3), t) * model.process.coords.schedule.sigma_at(t) ** 2
    apart = torch.zeros(1, 3, 3)
    apart[0, 1, 0] = 0.3 / float(scale[0, 0, 0])  # the score takes the second orbit 0.3 of the cell away
    assert not guide.crowded(state, replace(still, coord_score=apart), t).any()


def test_crowded_orbits_are_drawn_anew_but_never_those_of_a_template(priors):
    model, request = model_of(DEFAULT, priors), request_of(priors, GROUPS, ORBITS)
    plain, moving = SamplerConfig(num_steps=8), SamplerConfig(num_steps=8, relocate_below=50.0)
    assert not torch.equal(model.sample(request, moving).frac_coords, model.sample(request, plain).frac_coords)
    again = model.sample(request, moving)
    assert torch.equal(model.sample(request, moving).frac_coords, again.frac_coords)
    codes = again.site_symmetry.masked_fill(~again.mask[..., None], -1)
    template = replace(request, site_symmetry_fixed=codes)
    assert torch.equal(model.sample(template, moving).frac_coords, model.sample(template, plain).frac_coords)


def test_sites_that_are_far_from_an_orbit_are_not_drawn(priors):
    """A network that knows nothing draws any code; the geometry then decides alone, but never over a template."""
    model, request = model_of(DEFAULT, priors), request_of(priors, GROUPS, ORBITS)
    forbidden = [int(priors.num_codes[group]) - 1 for group in GROUPS]  # one code of each group, said to be far away

    def far(group, frac_coords, lattice):
        assert frac_coords.shape == (len(group), 3) and lattice.shape == (len(group), 3, 3)
        found = torch.zeros(len(group), int(priors.num_codes[group].max()))
        found[torch.arange(len(group)), priors.num_codes[group] - 1] = 50.0
        return found

    plain, careful = SamplerConfig(num_steps=20), SamplerConfig(num_steps=20, site_tolerance=0.2)
    rows = [row for row, group in enumerate(GROUPS) if priors.num_codes[group] > 1]

    def drawn(sampled):
        codes = [priors.site_symmetry_codes[GROUPS[row], forbidden[row]].long() for row in rows]
        return [(sampled.site_symmetry[row, : ORBITS[row]] == code).all(-1).sum() for row, code in zip(rows, codes)]

    assert sum(drawn(model.sample(request, plain))) > 0
    careful_samples = model.sample(request, careful, site_misfits=far)
    assert sum(drawn(careful_samples)) == 0 and invalid_codes(careful_samples, priors) == 0
    symmetry = torch.full((8, 6, 15), -1)
    for row in rows:
        symmetry[row, 0] = priors.site_symmetry_codes[GROUPS[row], forbidden[row]]
    template = model.sample(replace(request, site_symmetry_fixed=symmetry), careful, site_misfits=far)
    assert drawn(template) == [1] * len(rows)
    with pytest.raises(ValueError, match="site_misfits"):
        model.sample(request, careful)


def test_where_every_site_is_impossible_the_network_decides(priors):
    model, request = model_of(DEFAULT, priors), request_of(priors, GROUPS, ORBITS)

    def nowhere(group, frac_coords, lattice):
        return torch.full((len(group), int(priors.num_codes[group].max())), torch.inf)

    careful = SamplerConfig(num_steps=10, site_tolerance=0.2)
    sampled = model.sample(request, careful, site_misfits=nowhere)
    plain = model.sample(request, SamplerConfig(num_steps=10))
    assert torch.equal(sampled.site_symmetry, plain.site_symmetry)


def guide_and_state(priors, rows):
    """Fcc orbits on, beside and far from special positions; the second and third group have fewer codes."""
    model = model_of(DEFAULT, priors)
    group = torch.tensor([225, 14, 2])[rows]
    coords = torch.tensor([[0.0, 0.0, 0.0], [0.25, 0.25, 0.26], [0.13, 0.05, 0.31]]).repeat(3, 1, 1)[rows]
    state = Fields(
        lattice_k=torch.zeros(len(rows), 6),
        frac_coords=coords,
        species_index=torch.zeros(len(rows), 3, dtype=torch.int64),
        site_symmetry=torch.full((len(rows), 3, 15), 13),
    )
    mask = torch.ones(len(rows), 3, dtype=torch.bool)
    sampler = SamplerConfig(num_steps=100, site_tolerance=0.15)
    return GeometryGuide(model.process, model.groups, sampler, group, mask, site_misfits_of), model, state, mask, group


def test_penalty_is_half_the_square_of_the_misfit_over_its_width(priors):
    guide, model, state, mask, group = guide_and_state(priors, [0, 1, 2])
    t = torch.tensor([100] * 3)
    still = Prediction(torch.zeros(3, 6), torch.zeros(3, 3, 3), torch.zeros(3, 3, 94), torch.zeros(3, 3, 15, 13))
    penalty = guide.site_penalty(state, still, t, mask)
    assert penalty is not None and penalty.shape == (3, 3, int(model.groups.num_codes[group].max()))
    cell = model.groups.lattice(model.process.lattice.estimate_x_0(state.lattice_k, still.lattice_eps, t), group)
    width = 0.15 + model.process.coords.schedule.sigma_at(t) * torch.linalg.det(cell).abs() ** (1 / 3)
    for row in range(3):
        metric = (cell[row] @ cell[row].T).double().numpy()
        misfit = site_misfits(
            np.full(3, int(group[row])), state.frac_coords[row].double().numpy(), metric[None].repeat(3, 0)
        )
        expected = 0.5 * (torch.from_numpy(misfit) / float(width[row])) ** 2
        torch.testing.assert_close(penalty[row, :, : expected.shape[1]].double(), expected, rtol=1e-3, atol=1e-4)
        alone, _, one, its_mask, _ = guide_and_state(priors, [row])
        single = Prediction(torch.zeros(1, 6), torch.zeros(1, 3, 3), torch.zeros(1, 3, 94), torch.zeros(1, 3, 15, 13))
        found = alone.site_penalty(one, single, t[:1], its_mask)
        torch.testing.assert_close(found[0], penalty[row, :, : found.shape[2]], rtol=1e-4, atol=1e-5)
    codes = model.groups.site_codes(group)
    best = codes.codes[0, penalty[0].argmin(-1)]  # on 4a itself only the code of m-3m is left
    assert penalty[0, 0].isfinite().sum() <= 2 and float(penalty[0, 0].min()) < 1e-6
    assert (best[0] == priors.site_symmetry_codes[225, int(penalty[0, 0].argmin())].long()).all()


def test_penalty_is_for_undecided_orbits_where_sites_are_decided(priors):
    guide, _, state, mask, _ = guide_and_state(priors, [0])
    still = Prediction(torch.zeros(1, 6), torch.zeros(1, 3, 3), torch.zeros(1, 3, 94), torch.zeros(1, 3, 15, 13))
    assert guide.site_penalty(state, still, torch.tensor([900]), mask) is None  # codes are drawn in the last fifth
    assert guide.site_penalty(state, still, torch.tensor([100]), torch.zeros_like(mask)) is None
    some = torch.tensor([[False, True, False]])
    penalty = guide.site_penalty(state, still, torch.tensor([100]), some)
    assert (penalty[0, [0, 2]] == 0).all() and (penalty[0, 1] > 0).any()


def test_a_tolerance_is_nothing_to_a_model_that_draws_axes_one_by_one(priors):
    model, request = model_of(PAPER, priors), request_of(priors, GROUPS, ORBITS)
    assert model.sample(request, SamplerConfig(num_steps=3, site_tolerance=0.15)).mask.any()
