"""What to sample, for one sample_id after the other: space group, orbits, elements and templates, drawn from priors."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from matgen.data.priors import NUM_SPECIES, Priors
from matgen.diffusion.joint import ReverseConfig, Stream
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.diffusion.sampler import SamplerConfig
from matgen.errors import ConfigError
from matgen.models.symmcd_sampling import SampleRequest
from matgen.shapes import Float, Int

# Streams of the counter noise, apart from those of the diffusion and of the model.
TEMPLATE_STREAM, GROUP_STREAM, ORBITS_STREAM, REQUIRED_STREAM = (Stream.MODEL + 16 + i for i in range(4))


def fast_sampler(num_steps: int = 100) -> SamplerConfig:
    """At most 100 network calls, species and site symmetries drawn colder than the network says, orbits kept apart.

    At temperature 1 the network's species are those of the data, on its own trajectories as well as on true geometries;
    plainly cold ones are too light (O, H and F are common anywhere), which the ratio to the prior avoids. Two orbits at
    one place were 17 of 19 invalid samples in 512; drawn anew while there is noise they find places of their own. In
    5 % of crystals (n = 2,000; half of the invalid ones among them) an orbit drew a site symmetry that no position near
    it has, and moved by up to 4 Å; so the geometry has a say in which is drawn.
    Settings were chosen on samples of other seeds than those reported. `SamplerConfig()` draws at temperature 1 and
    moves nothing.
    """
    return SamplerConfig(
        num_steps=num_steps,
        grid_power=1.5,
        relocate_below=0.7,
        site_tolerance=0.15,
        reverse=ReverseConfig(species_temperature=0.7, species_against_prior=True, site_symmetry_temperature=0.5),
    )


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Settings of sampling.

    Elements are symbols. `elements` are the ones allowed (none given: all), each of `require_elements` is put on an
    orbit of every sample. `space_group_temperature` flattens (> 1) or sharpens (< 1) the training set's distribution.
    `template` is a space group with Wyckoff letters and optionally elements, as "225:a=Na,b=Cl";
    `templates_from_training_set` draws one for each sample among the training crystals.
    """

    count: int = 1000
    batch_size: int = 128
    shard_size: int = 512
    space_groups: tuple[int, ...] = ()
    space_group_temperature: float = 1.0
    elements: tuple[str, ...] = ()
    require_elements: tuple[str, ...] = ()
    forbid_elements: tuple[str, ...] = ()
    template: str = ""
    templates_from_training_set: bool = False
    sampler: SamplerConfig = field(default_factory=fast_sampler)

    def __post_init__(self) -> None:
        for name in ("count", "batch_size", "shard_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for number in self.space_groups:
            if not 1 <= number <= 230:
                raise ValueError(f"space group {number} does not exist: they are numbered 1 to 230")
        if not 0 < self.space_group_temperature < float("inf"):
            raise ValueError(f"space_group_temperature must be above 0, not {self.space_group_temperature}")
        if self.template and self.templates_from_training_set:
            raise ValueError("give a template, or draw templates from the training set, not both")
        if self.space_groups and (self.template or self.templates_from_training_set):
            raise ValueError("a template has its own space group: give no other")


@dataclass(frozen=True)
class Template:
    """Orbits that are given: letters for decoding, their site symmetry, and species indices (-1: to be generated)."""

    space_group_number: int
    letters: tuple[str, ...]
    site_symmetry: tuple[tuple[int, ...], ...]
    species_index: tuple[int, ...]


def species_allowed(allowed: Sequence[int], required: Sequence[int], forbidden: Sequence[int]) -> np.ndarray:
    """Return bool[94] over species indices.

    Args:
        allowed: indices Z - 1; none means all.
        required: those that every sample has.
        forbidden: those that no sample has.

    Raises:
        ConfigError: a required element is forbidden or not among those allowed, or nothing is left.
    """
    mask = np.zeros(NUM_SPECIES, dtype=bool)
    mask[list(allowed) if allowed else slice(None)] = True
    mask[list(forbidden)] = False
    if not mask[list(required)].all():
        raise ConfigError("a required element is forbidden, or not among those allowed")
    if not mask.any():
        raise ConfigError("no element is left to choose from")
    return mask


def requests_for(
    sample_ids: np.ndarray,
    run_seed: int,
    priors: Priors,
    config: SampleConfig,
    *,
    allowed: np.ndarray,
    required: Sequence[int] = (),
    templates: Sequence[Template] = (),
) -> tuple[SampleRequest, list[tuple[str, ...] | None]]:
    """Say what each sample is to be; a row depends on the run's seed and its sample_id alone.

    Args:
        sample_ids: int64[B].
        run_seed: the run's seed.
        priors: training statistics.
        config: space groups and temperature.
        allowed: bool[94], see `species_allowed`.
        required: species indices, each of which is put on one orbit.
        templates: one is drawn, uniformly, for each sample; none: space group and number of orbits are drawn.

    Returns:
        The requests, and the letters of each sample's template (None without one).

    Raises:
        ConfigError: the required elements do not fit.
    """
    seeds = row_seed(run_seed, torch.as_tensor(sample_ids, dtype=torch.int64))
    noise = CounterNoise(seeds)
    letters: list[tuple[str, ...] | None] = [None] * len(sample_ids)
    if templates:
        chosen = [templates[int(place * len(templates))] for place in noise.uniform(0, TEMPLATE_STREAM).tolist()]
        request, letters = _from_templates(seeds, chosen), [template.letters for template in chosen]
    else:
        group_probs, orbit_probs = _distributions(priors, config, len(required))
        groups = _inverse_cdf(group_probs[None], noise.uniform(0, GROUP_STREAM))
        counts = _inverse_cdf(orbit_probs[groups], noise.uniform(0, ORBITS_STREAM))
        request = SampleRequest(seeds=seeds, space_group_number=groups, num_orbits=counts)
    if required:
        request = require_elements(request, required)
    rows = torch.from_numpy(allowed).expand(len(sample_ids), -1)
    return replace(request, species_allowed=rows), letters


def require_elements(request: SampleRequest, species: Sequence[int]) -> SampleRequest:
    """Fix each of the given species on an orbit of its own, chosen at random from those still free.

    Args:
        request: what is fixed already stays.
        species: indices Z - 1 that every crystal must contain.

    Raises:
        ConfigError: a row has too few free orbits.
    """
    longest = int(request.num_orbits.max())
    fixed = request.species_fixed
    fixed = torch.full((len(request), longest), -1) if fixed is None else fixed.clone()
    real = torch.arange(longest) < request.num_orbits[:, None]
    order = CounterNoise(request.seeds).uniform(0, REQUIRED_STREAM, (longest,))
    for element in species:
        missing = ~(fixed == element).any(1)
        free = real & (fixed < 0)
        short = missing & ~free.any(1)
        if bool(short.any()):
            row = int(short.nonzero()[0, 0])
            raise ConfigError(f"{len(species)} required elements do not fit on {int(request.num_orbits[row])} orbits")
        place = order.masked_fill(~free, torch.inf).argmin(1)
        rows = missing.nonzero()[:, 0]
        fixed[rows, place[rows]] = element
    return replace(request, species_fixed=fixed)


def _distributions(
    priors: Priors, config: SampleConfig, num_required: int
) -> tuple[Float[Tensor, "G"], Float[Tensor, "G M"]]:
    """p(G) and p(M | G) under the temperature, the groups asked for, and room for the required elements."""
    groups, orbits = priors.space_group_prob.double(), priors.num_orbits_prob.double().clone()
    if config.space_groups:
        asked = torch.zeros_like(groups)
        index = torch.tensor(sorted(set(config.space_groups)))
        # A group asked for by name is drawn even where training has none: as often as the rarest that it has.
        asked[index] = groups[index].clamp(min=float(groups[groups > 0].min()))
        groups = asked
    weights = torch.where(groups > 0, groups.clamp(min=1e-300) ** (1 / config.space_group_temperature), 0.0)
    orbits[:, : max(1, num_required)] = 0.0
    room = orbits.sum(1)
    if not bool((weights * room).any()):
        raise ConfigError(f"no training crystal of these space groups has the {num_required} orbits that are required")
    return weights * room, orbits / torch.where(room > 0, room, 1.0)[:, None]


def _inverse_cdf(probs: Float[Tensor, "#B C"], uniforms: Float[Tensor, "B"]) -> Int[Tensor, "B"]:
    """The index at which the cumulated probability passes each uniform number; one without probability never."""
    cumulated = probs.cumsum(1)
    return (cumulated <= uniforms[:, None] * cumulated[:, -1:]).sum(1)


def _from_templates(seeds: Int[Tensor, "B"], chosen: Sequence[Template]) -> SampleRequest:
    counts = torch.tensor([len(template.letters) for template in chosen])
    species = torch.full((len(chosen), int(counts.max())), -1)
    site_symmetry = torch.full((*species.shape, 15), -1)
    for row, template in enumerate(chosen):
        species[row, : counts[row]] = torch.tensor(template.species_index)
        site_symmetry[row, : counts[row]] = torch.tensor(template.site_symmetry)
    return SampleRequest(
        seeds=seeds,
        space_group_number=torch.tensor([template.space_group_number for template in chosen]),
        num_orbits=counts,
        species_fixed=species,
        site_symmetry_fixed=site_symmetry,
    )
