"""Lattice, coordinates, species and site symmetry diffused together, each by its own process."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from matgen.diffusion.categorical import CategoricalConfig, categorical_process
from matgen.diffusion.fields import Context, Corrupted, Fields, Prediction, Stream
from matgen.diffusion.gaussian import GaussianConfig, GaussianProcess
from matgen.diffusion.noise import CounterNoise
from matgen.diffusion.wrapped_normal import WrappedNormalConfig, WrappedNormalProcess
from matgen.shapes import Float, Int

_RAREST = 1e-3  # share of a class below which its ratio to the prior is not raised further


@dataclass(frozen=True, kw_only=True)
class ReverseConfig:
    """Settings of JointProcess.reverse_step.

    `species_against_prior` lets the temperature of the species act on the ratio of their predicted probabilities to the
    training set's (the sharpening of classifier-free guidance, with the marginal as the unguided model): a cold draw
    then prefers what the crystal asks for, and not the elements that are common anywhere.
    """

    species_temperature: float = 1.0
    species_against_prior: bool = False
    site_symmetry_temperature: float = 1.0
    eta: float = 1.0  # 1: ancestral; 0: deterministic lattice and coordinates

    def __post_init__(self) -> None:
        if min(self.species_temperature, self.site_symmetry_temperature) <= 0:
            raise ValueError(
                f"temperatures must be above 0, not {self.species_temperature}, {self.site_symmetry_temperature}"
            )
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in 0..1, not {self.eta}")


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """Settings of JointProcess: those of its four processes, over one number of steps."""

    lattice: GaussianConfig = field(default_factory=GaussianConfig)
    coords: WrappedNormalConfig = field(default_factory=WrappedNormalConfig)
    species: CategoricalConfig = field(default_factory=lambda: CategoricalConfig(num_classes=94))
    site_symmetry: CategoricalConfig = field(default_factory=lambda: CategoricalConfig(num_classes=13))
    tied_axes: bool = False  # one random number for all axes of an orbit: its whole code is masked and revealed at once

    def __post_init__(self) -> None:
        steps = {
            "lattice": self.lattice.schedule.num_steps,
            "coords": self.coords.sigmas.num_steps,
            "species": self.species.schedule.num_steps,
            "site_symmetry": self.site_symmetry.schedule.num_steps,
        }
        if len(set(steps.values())) > 1:
            raise ValueError(f"the fields must have the same num_steps, not {steps}")
        if self.tied_axes and self.site_symmetry.prior != "absorbing":
            # One number for all axes makes their redraws alike, which q(x_s | x_t, x_0) of a single axis does not know.
            raise ValueError(f"tied_axes needs the absorbing prior of site_symmetry, not {self.site_symmetry.prior!r}")

    @property
    def num_steps(self) -> int:
        """T."""
        return self.lattice.schedule.num_steps


class JointProcess:
    """Corrupts and steps back all fields; every random number comes from a CounterNoise."""

    def __init__(self, config: JointConfig) -> None:
        self.config = config
        self.num_steps = config.num_steps
        self.lattice = GaussianProcess(config.lattice)
        self.coords = WrappedNormalProcess(config.coords)
        self.species = categorical_process(config.species)
        self.site_symmetry = categorical_process(config.site_symmetry)

    def draw_t(self, noise: CounterNoise) -> Int[Tensor, "B"]:
        """One t in 1..T per crystal, uniform."""
        return 1 + (noise.uniform(0, Stream.TIME) * self.num_steps).long()

    def corrupt(self, x_0: Fields, t: Int[Tensor, "B"], context: Context, noise: CounterNoise) -> Corrupted:
        """The state at t, with targets.

        Args:
            x_0: data; anything at padded slots.
            t: steps in 1..T.
            context: masks and priors.
            noise: one row per crystal; its step is 0.

        Returns:
            state and targets, 0 at padded slots and masked lattice components.
        """
        orbits = tuple(context.mask.shape[1:])
        eps = noise.normal(0, Stream.LATTICE, (6,), x_0.lattice_k.dtype) * context.lattice_mask
        displacement = noise.normal(0, Stream.COORDS, (*orbits, 3), x_0.frac_coords.dtype)
        coords, coord_score = self.coords.corrupt(x_0.frac_coords, t, displacement)
        species_u = noise.uniform(0, Stream.SPECIES, orbits)
        symmetry_u = self._axis_uniform(0, Stream.SITE_SYMMETRY, orbits, noise)
        state = Fields(
            lattice_k=self.lattice.corrupt(x_0.lattice_k, t, eps),
            frac_coords=coords,
            species_index=self.species.corrupt(x_0.species_index.long(), t, _species_prior(context), species_u),
            site_symmetry=self.site_symmetry.corrupt(
                x_0.site_symmetry.long(), t, context.site_symmetry_prior[:, None], symmetry_u
            ),
        )
        target = coord_score.masked_fill(~context.mask[..., None], 0)
        return Corrupted(x_t=_masked(state, context), lattice_eps=eps, coord_score=target)

    def prior_sample(self, context: Context, noise: CounterNoise) -> Fields:
        """The state at T.

        Args:
            context: masks and priors.
            noise: one row per crystal; its step is T.

        Returns:
            pure noise, 0 at padded slots and masked lattice components.
        """
        orbits, t = tuple(context.mask.shape[1:]), self.num_steps
        state = Fields(
            lattice_k=self.lattice.prior_sample(noise.normal(t, Stream.PRIOR_LATTICE, (6,))),
            frac_coords=noise.uniform(t, Stream.PRIOR_COORDS, (*orbits, 3), torch.float32),
            species_index=self.species.prior_sample(
                _species_prior(context), noise.uniform(t, Stream.PRIOR_SPECIES, orbits)
            ),
            site_symmetry=self.site_symmetry.prior_sample(
                context.site_symmetry_prior[:, None], self._axis_uniform(t, Stream.PRIOR_SITE_SYMMETRY, orbits, noise)
            ),
        )
        return _masked(state, context)

    def reverse_step(
        self,
        x_t: Fields,
        prediction: Prediction,
        t: Int[Tensor, "B"],
        s: Int[Tensor, "B"],
        context: Context,
        noise: CounterNoise,
        config: ReverseConfig,
    ) -> Fields:
        """The state at s, for any s < t.

        Args:
            x_t: state at t.
            prediction: a denoiser's output at x_t and t.
            t: steps in 1..T.
            s: steps in 0..t - 1.
            context: masks and priors.
            noise: one row per crystal; its step is t.
            config: temperatures and eta.

        Returns:
            the state at s, 0 at padded slots and masked lattice components.
        """
        score = self.coords.unscale(prediction.coord_score.to(x_t.frac_coords.dtype), t)
        z_lattice = noise.normal(t, Stream.LATTICE, (6,), x_t.lattice_k.dtype)
        z_coords = noise.normal(t, Stream.COORDS, tuple(score.shape[1:]), x_t.frac_coords.dtype)
        eps_hat = prediction.lattice_eps.to(x_t.lattice_k.dtype)
        species, site_symmetry = self._reverse_labels(x_t, prediction, t, s, context, noise, config)
        state = Fields(
            lattice_k=self.lattice.reverse_step(x_t.lattice_k, eps_hat, t, s, z_lattice, config.eta),
            frac_coords=self.coords.reverse_step(x_t.frac_coords, score, t, s, z_coords, config.eta),
            species_index=species,
            site_symmetry=site_symmetry,
        )
        return _masked(state, context)

    def _reverse_labels(
        self,
        x_t: Fields,
        prediction: Prediction,
        t: Int[Tensor, "B"],
        s: Int[Tensor, "B"],
        context: Context,
        noise: CounterNoise,
        config: ReverseConfig,
    ) -> tuple[Int[Tensor, "B M"], Int[Tensor, "B M 15"]]:
        orbits = tuple(context.mask.shape[1:])
        prior = _species_prior(context) if config.species_against_prior else None
        species = self.species.reverse_step(
            x_t.species_index,
            _probs(prediction.species_logits, config.species_temperature, prior),
            t,
            s,
            _species_prior(context),
            noise.uniform(t, Stream.SPECIES, orbits),
        )
        site_symmetry = self.site_symmetry.reverse_step(
            x_t.site_symmetry,
            _probs(prediction.site_symmetry_logits, config.site_symmetry_temperature),
            t,
            s,
            context.site_symmetry_prior[:, None],
            self._axis_uniform(t, Stream.SITE_SYMMETRY, orbits, noise),
        )
        return species, site_symmetry

    def correct_coords(
        self,
        x_t: Fields,
        prediction: Prediction,
        t: Int[Tensor, "B"],
        context: Context,
        noise: CounterNoise,
        step_size: float,
        repeat: int = 0,
    ) -> Fields:
        """One Langevin step of the coordinates at fixed t; at t = 1 without noise.

        Args:
            x_t: state at t.
            prediction: a denoiser's output at x_t and t.
            t: steps in 1..T.
            context: masks and priors.
            noise: one row per crystal; its step is t.
            step_size: see WrappedNormalProcess.corrector_step.
            repeat: number of the correction at this t, from 0.

        Returns:
            a state at the same t.
        """
        shape = tuple(x_t.frac_coords.shape[1:])
        z = noise.normal(t + repeat * (self.num_steps + 1), Stream.CORRECTOR, shape, x_t.frac_coords.dtype)
        z = z * (t > 1)[:, None, None]
        score = self.coords.unscale(prediction.coord_score.to(x_t.frac_coords.dtype), t)
        coords = self.coords.corrector_step(x_t.frac_coords, score, t, step_size, z)
        state = Fields(
            lattice_k=x_t.lattice_k,
            frac_coords=coords,
            species_index=x_t.species_index,
            site_symmetry=x_t.site_symmetry,
        )
        return _masked(state, context)

    def _axis_uniform(
        self, step: int | Tensor, stream: Stream, orbits: tuple[int, ...], noise: CounterNoise
    ) -> Float[Tensor, "B M 15"]:
        if self.config.tied_axes:
            return noise.uniform(step, stream, (*orbits, 1)).expand(-1, -1, 15)
        return noise.uniform(step, stream, (*orbits, 15))


def _species_prior(context: Context) -> Float[Tensor, "... S"]:
    prior = context.species_prior
    return prior if prior.ndim == 1 else prior[:, None]


def _probs(logits: Tensor, temperature: float, prior: Tensor | None = None) -> Tensor:
    """Probabilities at a temperature; with a prior m they are proportional to m (p / m)^(1 / temperature)."""
    tempered = logits.float() / temperature
    if prior is not None:
        tempered = tempered + (1 - 1 / temperature) * prior.clamp(min=_RAREST).log()
    return tempered.softmax(-1)


def _masked(state: Fields, context: Context) -> Fields:
    padding = ~context.mask
    return Fields(
        lattice_k=state.lattice_k.masked_fill(~context.lattice_mask, 0),
        frac_coords=state.frac_coords.masked_fill(padding[..., None], 0),
        species_index=state.species_index.masked_fill(padding, 0),
        site_symmetry=state.site_symmetry.masked_fill(padding[..., None], 0),
    )
