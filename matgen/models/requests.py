"""What to sample: space group, number of orbits, and what of a template or of elements is given, drawn from priors."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from matgen.data.priors import NUM_GROUPS, NUM_SPECIES, Priors
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.diffusion.sampler import SamplerConfig
from matgen.errors import ConfigError

STREAM = 1024  # of the counter noise, apart from those of the diffusion and of the model: group, orbits, elements


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Settings of sampling.

    Elements are symbols. `elements` are the ones allowed (none given: all), each of `require_elements` is put on an
    orbit of every sample. `space_group_temperature` flattens (> 1) or sharpens (< 1) the training set's distribution.
    `template` is a space group with Wyckoff letters and optionally elements, as "225:a=Na,b=Cl"; `templates` draws one
    for each sample from the training set.
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
        if self.template and self.space_groups:
            raise ValueError("a template has its own space group: give no other")


@dataclass(frozen=True)
class Template:
    """Orbits that are given: their site symmetry, the letters for decoding, and species (-1: to be generated)."""

    space_group_number: int
    letters: tuple[str, ...]
    site_symmetry: tuple[tuple[int, ...], ...]
    species_index: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Requests:
    """B samples to draw; -1 is free, padding is -1.

    Attributes:
        sample_id, seed: int64[B]; the seed is a function of the run's seed and the sample_id.
        space_group_number, num_orbits: int64[B].
        species_fixed: int64[B, M]. site_symmetry_fixed: int64[B, M, 15].
        species_allowed: bool[94], the same for all samples.
        template_letters: letters of each sample's template, None without one.
    """

    sample_id: np.ndarray
    seed: np.ndarray
    space_group_number: np.ndarray
    num_orbits: np.ndarray
    species_fixed: np.ndarray
    site_symmetry_fixed: np.ndarray
    species_allowed: np.ndarray
    template_letters: tuple[tuple[str, ...] | None, ...]

    def __len__(self) -> int:
        return len(self.sample_id)


def draw_requests(
    sample_ids: np.ndarray,
    run_seed: int,
    priors: Priors,
    config: SampleConfig,
    *,
    species_allowed: np.ndarray,
    species_required: Sequence[int] = (),
    templates: Sequence[Template] = (),
) -> Requests:
    """Draw what each sample is to be; a row depends on the run's seed and its sample_id alone.

    Args:
        sample_ids: int64[B].
        run_seed: the run's seed.
        priors: training statistics.
        config: space groups and temperature.
        species_allowed: bool[94], index Z - 1.
        species_required: indices Z - 1, each of which is put on one orbit.
        templates: drawn uniformly, one for each sample; none: space group and number of orbits are drawn.

    Raises:
        ConfigError: nothing in the training set has enough orbits for the required elements.
    """
    seeds = row_seed(run_seed, torch.as_tensor(sample_ids, dtype=torch.int64))
    noise = CounterNoise(seeds)
    uniforms = noise.uniform(0, STREAM, (2,)).numpy()
    chosen: list[Template | None] = [None] * len(sample_ids)
    if templates:
        chosen = [templates[int(u * len(templates))] for u in uniforms[:, 0]]
        groups = np.array([template.space_group_number for template in chosen if template], dtype=np.int64)
        num_orbits = np.array([len(template.letters) for template in chosen if template], dtype=np.int64)
    else:
        group_prob, orbit_prob = _distributions(priors, config, len(species_required))
        groups = _inverse_cdf(group_prob[None], uniforms[:, 0])
        num_orbits = _inverse_cdf(orbit_prob[groups], uniforms[:, 1])
    width = max(1, int(num_orbits.max(initial=1)))
    species, site_symmetry = _fixed_fields(chosen, len(sample_ids), width)
    orders = np.argsort(noise.uniform(0, STREAM + 1, (width,)).numpy(), axis=1)
    for row in range(len(sample_ids)):
        _place_required(species[row], orders[row], int(num_orbits[row]), species_required)
    return Requests(
        sample_id=np.asarray(sample_ids, dtype=np.int64),
        seed=seeds.numpy(),
        space_group_number=groups,
        num_orbits=num_orbits,
        species_fixed=species,
        site_symmetry_fixed=site_symmetry,
        species_allowed=np.asarray(species_allowed, dtype=bool),
        template_letters=tuple(template.letters if template else None for template in chosen),
    )


def _distributions(priors: Priors, config: SampleConfig, min_orbits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return p(G) and p(M | G) under the temperature, the groups asked for, and room for the required elements."""
    group_prob = priors.space_group_prob.double().numpy().copy()
    if config.space_groups:
        asked = np.zeros(NUM_GROUPS, dtype=bool)
        asked[list(config.space_groups)] = True
        # A group asked for by name is drawn even where training has none: as often as the rarest that it has.
        rarest = group_prob[group_prob > 0].min()
        group_prob = np.where(asked, np.maximum(group_prob, rarest), 0.0)
    group_prob = np.where(group_prob > 0, group_prob ** (1 / config.space_group_temperature), 0.0)
    orbit_prob = priors.num_orbits_prob.double().numpy().copy()
    orbit_prob[:, : max(1, min_orbits)] = 0.0
    room = orbit_prob.sum(1)
    group_prob *= room
    if not group_prob.any():
        raise ConfigError(
            f"{min_orbits} required elements need as many orbits, and no training crystal of the space groups has them"
        )
    orbit_prob /= np.where(room > 0, room, 1.0)[:, None]
    return group_prob / group_prob.sum(), orbit_prob


def _inverse_cdf(probabilities: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Return the index at which the cumulated probability passes each uniform number; zero-probability ones never."""
    cumulated = np.cumsum(probabilities, axis=1)
    target = uniforms * cumulated[:, -1]
    return np.asarray((cumulated <= target[:, None]).sum(axis=1), dtype=np.int64)


def _fixed_fields(chosen: Sequence[Template | None], num_rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    species = np.full((num_rows, width), -1, dtype=np.int64)
    site_symmetry = np.full((num_rows, width, 15), -1, dtype=np.int64)
    for row, template in enumerate(chosen):
        if template is not None:
            species[row, : len(template.letters)] = template.species_index
            site_symmetry[row, : len(template.letters)] = template.site_symmetry
    return species, site_symmetry


def _place_required(species: np.ndarray, order: np.ndarray, num_orbits: int, required: Sequence[int]) -> None:
    """Put each required element that no orbit has yet on a free orbit, in random order, in place."""
    missing = [index for index in required if index not in species[:num_orbits]]
    free = [orbit for orbit in order if orbit < num_orbits and species[orbit] < 0]
    if len(missing) > len(free):
        raise ConfigError(f"{len(required)} required elements do not fit on {num_orbits} orbits")
    for orbit, index in zip(free, missing, strict=False):
        species[orbit] = index


def allowed_species(allowed: Sequence[int], required: Sequence[int], forbidden: Sequence[int]) -> np.ndarray:
    """Return bool[94] over species indices from lists of allowed (none: all), required and forbidden ones.

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
