from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from matgen.diffusion.categorical import CategoricalConfig, one_hot
from matgen.diffusion.joint import Context, Fields, JointConfig, JointProcess, ReverseConfig, Stream
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.diffusion.schedule import ScheduleConfig

B, M, S = 6, 5, 7


@dataclass(frozen=True)
class Answer:
    lattice_eps: Tensor
    coord_score: Tensor
    species_logits: Tensor
    site_symmetry_logits: Tensor


def config(species="marginal", site_symmetry="marginal"):
    return JointConfig(
        species=CategoricalConfig(num_classes=S, prior=species),
        site_symmetry=CategoricalConfig(num_classes=13, prior=site_symmetry),
    )


PROCESSES = {
    "marginal": JointProcess(config()),
    "absorbing": JointProcess(config("absorbing", "absorbing")),
    "mixed": JointProcess(config("absorbing", "marginal")),
    "tied": JointProcess(replace(config("absorbing", "absorbing"), tied_axes=True)),
}


@pytest.fixture(params=PROCESSES)
def process(request):
    return PROCESSES[request.param]


def context(slots=M):
    rng = torch.Generator().manual_seed(0)
    num_orbits = torch.tensor([1, 5, 3, 2, 4, 5])
    return Context(
        mask=torch.arange(slots) < num_orbits[:, None],
        lattice_mask=torch.rand(B, 6, generator=rng) < 0.7,
        species_prior=torch.rand(S, generator=rng).softmax(0),
        site_symmetry_prior=torch.rand(B, 15, 13, generator=rng).mul(4).softmax(-1),
    )


def data(slots=M):
    """Garbage sits at the padded slots."""
    rng = torch.Generator().manual_seed(1)
    x = Fields(
        lattice_k=torch.randn(B, 6, generator=rng) * context().lattice_mask,
        frac_coords=torch.rand(B, M, 3, generator=rng),
        species_index=torch.randint(0, S, (B, M), generator=rng),
        site_symmetry=torch.randint(0, 13, (B, M, 15), generator=rng, dtype=torch.int8),
    )
    extra = slots - M
    return replace(
        x,
        frac_coords=torch.cat([x.frac_coords, torch.full((B, extra, 3), float("nan"))], 1),
        species_index=torch.cat([x.species_index, torch.full((B, extra), -1)], 1),
        site_symmetry=torch.cat([x.site_symmetry, torch.full((B, extra, 15), 99, dtype=torch.int8)], 1),
    )


def answer(slots=M):
    rng = torch.Generator().manual_seed(2)
    parts = [(6,), (M, 3), (M, S), (M, 15, 13)]
    values = [torch.randn(B, *shape, generator=rng) for shape in parts]
    if slots > M:
        values[1:] = [torch.cat([v, torch.full((B, slots - M, *v.shape[2:]), float("nan"))], 1) for v in values[1:]]
    return Answer(*values)


def noise(rows=None):
    seeds = row_seed(5, torch.arange(B))
    return CounterNoise(seeds if rows is None else seeds[rows])


def tensors(fields):
    return [fields.lattice_k, fields.frac_coords, fields.species_index, fields.site_symmetry]


def take(obj, rows):
    """The rows of every tensor that has one entry per crystal."""
    changed = {k: v[rows] if v.shape[0] == B else v for k, v in vars(obj).items()}
    return type(obj)(**changed)


T_ALL = torch.tensor([1, 10, 200, 500, 999, 1000])
S_ALL = torch.tensor([0, 3, 199, 100, 0, 999])


def step(process, slots=M, rows=None):
    x_t = process.corrupt(data(slots), T_ALL, context(slots), noise()).x_t
    inputs = [x_t, answer(slots), T_ALL, S_ALL, context(slots)]
    if rows is not None:
        inputs = [v[rows] if isinstance(v, Tensor) else take(v, rows) for v in inputs]
    return process.reverse_step(*inputs, noise(rows), ReverseConfig())


def test_shapes_and_ranges(process):
    state = process.corrupt(data(), T_ALL, context(), noise()).x_t
    for fields in (state, process.prior_sample(context(), noise()), step(process)):
        assert all(torch.isfinite(x).all() for x in tensors(fields))
        assert (fields.frac_coords >= 0).all() and (fields.frac_coords < 1).all()
        assert fields.species_index.max() < process.species.num_states
        assert fields.site_symmetry.max() < process.site_symmetry.num_states
        assert (fields.lattice_k[~context().lattice_mask] == 0).all()


def test_padding_is_zero_and_never_matters(process):
    """More padding, filled with NaN and impossible classes, leaves every real slot as it was."""
    narrow, wide = (process.corrupt(data(n), T_ALL, context(n), noise()) for n in (M, M + 4))
    pairs = [(narrow.x_t, wide.x_t), (step(process), step(process, M + 4))]
    pairs.append(tuple(process.prior_sample(context(n), noise()) for n in (M, M + 4)))
    for small, large in pairs:
        for a, b in zip(tensors(small)[1:], tensors(large)[1:], strict=True):
            torch.testing.assert_close(a, b[:, :M], rtol=1e-6, atol=1e-6)
            assert (b[~context(M + 4).mask] == 0).all()
        torch.testing.assert_close(small.lattice_k, large.lattice_k, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(narrow.coord_score, wide.coord_score[:, :M])
    assert (wide.coord_score[:, M:] == 0).all()


def test_a_row_does_not_depend_on_its_batch(process):
    rows = torch.tensor([4, 1, 5])
    whole, part = step(process), step(process, rows=rows)
    for a, b in zip(tensors(whole), tensors(part), strict=True):
        torch.testing.assert_close(a[rows], b, rtol=1e-6, atol=1e-6)
    corrupted = process.corrupt(data(), T_ALL, context(), noise())
    alone = process.corrupt(take(data(), rows), T_ALL[rows], take(context(), rows), noise(rows))
    for a, b in zip(tensors(corrupted.x_t), tensors(alone.x_t), strict=True):
        torch.testing.assert_close(a[rows], b, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(corrupted.lattice_eps[rows], alone.lattice_eps)


def test_same_seed_same_state_and_other_seed_other_state(process):
    a, b = (process.prior_sample(context(), noise()) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))
    other = process.prior_sample(context(), CounterNoise(row_seed(6, torch.arange(B))))
    assert not torch.equal(a.frac_coords, other.frac_coords)


def test_lattice_target_is_masked(process):
    corrupted = process.corrupt(data(), T_ALL, context(), noise())
    free = context().lattice_mask
    assert (corrupted.lattice_eps[~free] == 0).all() and (corrupted.lattice_eps[free] != 0).all()
    recovered = process.lattice.estimate_x_0(corrupted.x_t.lattice_k, corrupted.lattice_eps, T_ALL)
    torch.testing.assert_close(recovered[:4], data().lattice_k[:4], rtol=1e-3, atol=1e-3)


def test_perfect_prediction_returns_the_data(process):
    """One step from any t to 0 with the true eps, score and classes. Coordinates: where nothing has wrapped around."""
    t = torch.tensor([1, 10, 100, 200, 300, 400])
    corrupted = process.corrupt(data(), t, context(), noise())
    x_0 = data()
    truth = Answer(
        corrupted.lattice_eps,
        corrupted.coord_score,
        one_hot(x_0.species_index, S).log(),
        one_hot(x_0.site_symmetry, 13).log(),
    )
    back = process.reverse_step(corrupted.x_t, truth, t, torch.zeros_like(t), context(), noise(), ReverseConfig())
    mask = context().mask
    torch.testing.assert_close(back.lattice_k, x_0.lattice_k, rtol=1e-3, atol=1e-3)
    assert torch.equal(back.species_index[mask], x_0.species_index[mask])
    assert torch.equal(back.site_symmetry[mask], x_0.site_symmetry[mask].long())
    difference = (back.frac_coords - x_0.frac_coords)[mask]
    assert (difference - difference.round()).abs().max() < 1e-4


def test_forbidden_classes_are_never_reached(process):
    logits = torch.randn(B, M, S, generator=torch.Generator().manual_seed(3))
    logits[..., ::2] = -torch.inf
    prediction = replace(answer(), species_logits=logits)
    x_t = process.prior_sample(context(), noise())
    t, s = torch.full((B,), 700), torch.zeros(B, dtype=torch.int64)
    drawn = process.reverse_step(x_t, prediction, t, s, context(), noise(), ReverseConfig()).species_index
    assert (drawn[context().mask] % 2 == 1).all()


def test_low_temperature_takes_the_likeliest(process):
    cold = ReverseConfig(species_temperature=1e-4, site_symmetry_temperature=1e-4)
    x_t = process.prior_sample(context(), noise())
    t, s = torch.full((B,), 700), torch.zeros(B, dtype=torch.int64)
    state = process.reverse_step(x_t, answer(), t, s, context(), noise(), cold)
    mask = context().mask
    assert torch.equal(state.species_index[mask], answer().species_logits.argmax(-1)[mask])
    assert torch.equal(state.site_symmetry[mask], answer().site_symmetry_logits.argmax(-1)[mask])


def test_a_cold_draw_against_the_prior_keeps_the_prior():
    process = JointProcess(config("absorbing", "absorbing"))
    prior = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.05, 0.04, 0.01])
    num = 20_000
    context = Context(
        mask=torch.ones(num, 1, dtype=torch.bool),
        lattice_mask=torch.ones(num, 6, dtype=torch.bool),
        species_prior=prior,
        site_symmetry_prior=torch.full((num, 15, 13), 1 / 13),
    )
    noise = CounterNoise(row_seed(0, torch.arange(num)))
    state = process.prior_sample(context, noise)
    # a network that knows nothing of the crystal predicts the prior
    answer = Answer(
        lattice_eps=torch.zeros(num, 6),
        coord_score=torch.zeros(num, 1, 3),
        species_logits=prior.log().expand(num, 1, S),
        site_symmetry_logits=torch.zeros(num, 1, 15, 13),
    )
    t, s = torch.full((num,), process.num_steps), torch.zeros(num, dtype=torch.int64)

    def share(against: bool) -> Tensor:
        settings = ReverseConfig(species_temperature=0.4, species_against_prior=against)
        drawn = process.reverse_step(state, answer, t, s, context, noise, settings).species_index
        return torch.bincount(drawn.flatten(), minlength=S) / num

    assert (share(True) - prior).abs().max() < 0.015
    assert (share(False) - prior).abs().max() > 0.15  # plainly cold: the common classes are drawn far too often


def test_correction_moves_coordinates_only_and_repeats_differ(process):
    x_t = process.corrupt(data(), T_ALL, context(), noise()).x_t
    first, second = (process.correct_coords(x_t, answer(), T_ALL, context(), noise(), 1e-5, r) for r in (0, 1))
    assert torch.equal(first.lattice_k, x_t.lattice_k) and torch.equal(first.site_symmetry, x_t.site_symmetry)
    assert not torch.equal(first.frac_coords[1:], second.frac_coords[1:])
    assert torch.equal(first.frac_coords[0], second.frac_coords[0])  # t = 1: no noise
    assert (first.frac_coords[~context().mask] == 0).all()


def test_half_precision_predictions_are_accepted(process):
    half = Answer(*(v.bfloat16() for v in vars(answer()).values()))
    x_t = process.corrupt(data(), T_ALL, context(), noise()).x_t
    state = process.reverse_step(x_t, half, T_ALL, S_ALL, context(), noise(), ReverseConfig())
    assert state.lattice_k.dtype == state.frac_coords.dtype == torch.float32


def test_species_prior_may_differ_per_crystal(process):
    per_crystal = replace(context(), species_prior=context().species_prior.expand(B, S))
    a, b = (process.prior_sample(c, noise()) for c in (context(), per_crystal))
    assert torch.equal(a.species_index, b.species_index)


def test_t_is_uniform():
    t = PROCESSES["marginal"].draw_t(CounterNoise(row_seed(0, torch.arange(100_000))))
    assert t.min() == 1 and t.max() == 1000
    counts = torch.bincount(t - 1, minlength=1000).double()
    assert ((counts - 100) ** 2 / 100).sum() < 1000 + 4 * 2000**0.5


def test_tied_axes_are_masked_and_revealed_together():
    """All axes of an orbit or none; the share revealed by a step is the absorbing posterior's."""
    p, rows = PROCESSES["tied"], 4000
    many = CounterNoise(row_seed(8, torch.arange(rows)))
    wide = Context(
        mask=torch.ones(rows, 1, dtype=torch.bool),
        lattice_mask=torch.ones(rows, 6, dtype=torch.bool),
        species_prior=context().species_prior,
        site_symmetry_prior=torch.full((rows, 15, 13), 1 / 13),
    )
    code = torch.randint(0, 13, (15,), generator=torch.Generator().manual_seed(4)).expand(rows, 1, 15)
    x_0 = Fields(
        lattice_k=torch.zeros(rows, 6),
        frac_coords=torch.zeros(rows, 1, 3),
        species_index=torch.zeros(rows, 1, dtype=torch.int64),
        site_symmetry=code,
    )
    t, s = torch.full((rows,), 700), torch.full((rows,), 400)
    alpha_bar_t, alpha_bar_s = p.site_symmetry.schedule.alpha_bar[[700, 400]].tolist()
    noisy = p.corrupt(x_0, t, wide, many).x_t
    hidden = noisy.site_symmetry == 13
    assert (hidden.all(-1) | ~hidden.any(-1)).all()
    assert hidden.double().mean() == pytest.approx(1 - alpha_bar_t, abs=0.03)
    said = Answer(torch.zeros(rows, 6), torch.zeros(rows, 1, 3), torch.zeros(rows, 1, S), one_hot(code, 13).log())
    later = p.reverse_step(noisy, said, t, s, wide, many, ReverseConfig()).site_symmetry
    still = later == 13
    assert (still.all(-1) | ~still.any(-1)).all()
    assert torch.equal(later[~still], code[~still])
    assert still.double().mean() == pytest.approx(1 - alpha_bar_s, abs=0.03)


def test_streams_are_distinct():
    assert len({int(s) for s in Stream}) == len(Stream)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: JointConfig(species=CategoricalConfig(num_classes=94, schedule=ScheduleConfig(num_steps=10))),
        lambda: replace(config(), tied_axes=True),
        lambda: ReverseConfig(species_temperature=0.0),
        lambda: ReverseConfig(eta=1.5),
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=r"num_steps|absorbing|temperature|eta"):
        bad()
