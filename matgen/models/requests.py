"""What to sample, for one sample_id after the other: space group, orbits, elements and templates, drawn from priors."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from matgen.data.priors import NUM_SPECIES, Priors
from matgen.diffusion.joint import Stream
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.diffusion.sampler import SamplerConfig
from matgen.errors import ConfigError
from matgen.models.symmcd_sampling import SampleRequest, draw_requests, require_elements

TEMPLATE_STREAM = Stream.MODEL + 16


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
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

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
    letters: list[tuple[str, ...] | None] = [None] * len(sample_ids)
    if templates:
        uniforms = CounterNoise(seeds).uniform(0, TEMPLATE_STREAM).tolist()
        chosen = [templates[int(uniform * len(templates))] for uniform in uniforms]
        request, letters = _from_templates(seeds, chosen), [template.letters for template in chosen]
    else:
        request = draw_requests(
            _with_room(priors, config.space_groups, max(1, len(required))),
            seeds,
            temperature=config.space_group_temperature,
            space_groups=config.space_groups or None,
        )
    try:
        request = require_elements(request, required) if required else request
    except ValueError as error:
        raise ConfigError(str(error)) from error
    rows = torch.from_numpy(allowed).expand(len(sample_ids), -1)
    return replace(request, species_allowed=rows), letters


def _with_room(priors: Priors, space_groups: Sequence[int], min_orbits: int) -> Priors:
    """Condition the priors on at least so many orbits: p(G) p(M >= m | G), and p(M | G, M >= m)."""
    if min_orbits <= 1:
        return priors
    orbits = priors.num_orbits_prob.clone()
    orbits[:, :min_orbits] = 0
    room = orbits.sum(1)
    groups = priors.space_group_prob * room
    wanted = list(space_groups) or list(range(1, len(groups)))
    if not bool((room[wanted] > 0).any()) or not bool(groups.any()):
        raise ConfigError(f"no training crystal of these space groups has the {min_orbits} orbits that are required")
    for group in wanted:
        if space_groups and room[group] == 0:
            raise ConfigError(f"no training crystal of space group {group} has {min_orbits} orbits, as many as required")
    return replace(priors, space_group_prob=groups, num_orbits_prob=orbits)


def _from_templates(seeds: torch.Tensor, chosen: Sequence[Template]) -> SampleRequest:
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
