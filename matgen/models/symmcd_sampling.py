"""What to sample, under which constraints, and how constraints enter the reverse process: as logits of clean data."""

from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matgen.data.priors import NUM_AXES
from matgen.diffusion.categorical import one_hot, sample_categorical
from matgen.diffusion.joint import Fields, Stream
from matgen.diffusion.noise import CounterNoise
from matgen.models.symmcd_groups import SiteCodes
from matgen.models.symmcd_losses import code_scores, consistent_codes
from matgen.nn.cspnet import NUM_CLASSES, Prediction


class ModelStream(IntEnum):
    """Streams of random numbers that belong to this model."""

    CODES = Stream.MODEL
    REVEAL = Stream.MODEL + 1
    RELOCATE = Stream.MODEL + 2


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleRequest:
    """One row per crystal to make; orbits beyond `num_orbits` are padding.

    Args:
        seeds: `[B]` int64, from which all randomness of a row follows.
        space_group_number: `[B]`, 1 to 230.
        num_orbits: `[B]`, at least 1.
        species_fixed: `[B, M]`, index Z - 1, or -1 where free; None: all free.
        site_symmetry_fixed: `[B, M, 15]`, classes, or -1 on all axes of an orbit that is free; None: all free.
        species_allowed: `[B, S]`, True for elements that may appear; None: all. Fixed species may always appear.
    """

    seeds: Int[Tensor, "B"]
    space_group_number: Int[Tensor, "B"]
    num_orbits: Int[Tensor, "B"]
    species_fixed: Int[Tensor, "B M"] | None = None
    site_symmetry_fixed: Int[Tensor, "B M 15"] | None = None
    species_allowed: Bool[Tensor, "B S"] | None = None

    def __len__(self) -> int:
        return len(self.seeds)

    def select(self, rows: Int[Tensor, "R"] | slice) -> "SampleRequest":
        """Some of the rows, with padding cut to the longest of them."""
        counts = self.num_orbits[rows]
        longest = int(counts.max())

        def orbits(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[rows][:, :longest]

        return SampleRequest(
            seeds=self.seeds[rows],
            space_group_number=self.space_group_number[rows],
            num_orbits=counts,
            species_fixed=orbits(self.species_fixed),
            site_symmetry_fixed=orbits(self.site_symmetry_fixed),
            species_allowed=None if self.species_allowed is None else self.species_allowed[rows],
        )

    def to(self, device: torch.device | str) -> "SampleRequest":
        """The same request on another device."""

        def moved(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.to(device)

        return SampleRequest(
            seeds=self.seeds.to(device),
            space_group_number=self.space_group_number.to(device),
            num_orbits=self.num_orbits.to(device),
            species_fixed=moved(self.species_fixed),
            site_symmetry_fixed=moved(self.site_symmetry_fixed),
            species_allowed=moved(self.species_allowed),
        )

    def check(self, num_species: int) -> None:
        """Raise ValueError, with the value, for a row that cannot be sampled."""
        low, high = int(self.space_group_number.min()), int(self.space_group_number.max())
        if low < 1 or high > 230:
            raise ValueError(f"space group number {low if low < 1 else high} is not in 1..230")
        if int(self.num_orbits.min()) < 1:
            raise ValueError(f"a crystal cannot have {int(self.num_orbits.min())} orbits")
        if self.species_fixed is not None and int(self.species_fixed.max()) >= num_species:
            raise ValueError(f"species index {int(self.species_fixed.max())} is not below {num_species}")
        if self.species_allowed is not None and not bool(self.species_allowed.any(1).all()):
            raise ValueError("a row allows no element at all")


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """Sampled asymmetric units, padded; the fields of `Batch` as the model left them, before any projection."""

    space_group_number: Int[Tensor, "B"]
    num_orbits: Int[Tensor, "B"]
    mask: Bool[Tensor, "B M"]
    lattice_k: Float[Tensor, "B 6"]
    frac_coords: Float[Tensor, "B M 3"]
    species_index: Int[Tensor, "B M"]
    site_symmetry: Int[Tensor, "B M 15"]


@dataclass(frozen=True)
class Constraints:
    """What is fixed or forbidden, in the form that the reverse process takes.

    Args:
        request: with fixed values padded to the batch's orbits.
        codes: of the space groups; None where axes are drawn independently.
        temperature: of the site-symmetry codes.
        absorbing_species: fixed species are shown to the network from the start, not only as they are unmasked.
        absorbing_site_symmetry: the same for codes; and a known class is certain.
    """

    request: SampleRequest
    codes: SiteCodes | None
    temperature: float
    absorbing_species: bool
    absorbing_site_symmetry: bool

    def show(self, state: Fields) -> Fields:
        """The state with fixed values in place of whatever the process holds there."""
        species, symmetry = self.request.species_fixed, self.request.site_symmetry_fixed
        if species is not None and self.absorbing_species:
            state = replace(state, species_index=torch.where(species >= 0, species, state.species_index))
        if symmetry is not None and self.absorbing_site_symmetry:
            state = replace(state, site_symmetry=torch.where(symmetry >= 0, symmetry, state.site_symmetry))
        return state

    def movable(self, orbits: Bool[Tensor, "B M"]) -> Bool[Tensor, "B M"]:
        """Those of the given orbits whose site symmetry is not fixed."""
        fixed = self.request.site_symmetry_fixed
        return orbits if fixed is None else orbits & (fixed < 0).all(-1)

    def undecided(self, state: Fields, mask: Bool[Tensor, "B M"]) -> Bool[Tensor, "B M"]:
        """Orbits whose site symmetry is still to be drawn."""
        hidden = self.movable(mask)
        return hidden & (state.site_symmetry >= NUM_CLASSES).any(-1) if self.absorbing_site_symmetry else hidden

    def impose(
        self,
        prediction: Prediction,
        state: Fields,
        t: int,
        noise: CounterNoise,
        penalty: Float[Tensor, "B M C"] | None = None,
    ) -> Prediction:
        """The prediction with forbidden classes at -inf, fixed ones certain, and site symmetries drawn jointly.

        `penalty` is taken from the logarithms of the probabilities of the groups' codes.
        """
        species = self._species(prediction.species_logits)
        symmetry = prediction.site_symmetry_logits
        if self.codes is not None:
            symmetry = self._draw_codes(symmetry, state, self.codes, t, noise, penalty)
        fixed = self.request.site_symmetry_fixed
        if fixed is not None:
            certain = one_hot(fixed.clamp(min=0), symmetry.shape[-1], symmetry.dtype).log()
            symmetry = torch.where((fixed >= 0)[..., None], certain, symmetry)
        return replace(prediction, species_logits=species, site_symmetry_logits=symmetry)

    def _species(self, logits: Float[Tensor, "B M S"]) -> Float[Tensor, "B M S"]:
        allowed, fixed = self.request.species_allowed, self.request.species_fixed
        if allowed is not None:
            logits = logits.masked_fill(~allowed[:, None], -torch.inf)
        if fixed is not None:
            certain = one_hot(fixed.clamp(min=0), logits.shape[-1], logits.dtype).log()
            logits = torch.where((fixed >= 0)[..., None], certain, logits)
        return logits

    def _draw_codes(
        self,
        logits: Float[Tensor, "B M 15 13"],
        state: Fields,
        codes: SiteCodes,
        t: int,
        noise: CounterNoise,
        penalty: Float[Tensor, "B M C"] | None,
    ) -> Float[Tensor, "B M 15 13"]:
        known = state.site_symmetry
        if not self.absorbing_site_symmetry:
            known = torch.full_like(known, NUM_CLASSES)
        allowed = consistent_codes(known, codes)
        # Padded orbits, and fixed codes that the tables do not list, have no consistent code and are overwritten.
        allowed = allowed | (~allowed.any(-1, keepdim=True) & codes.valid[:, None])
        scores = code_scores(logits, codes, allowed) / self.temperature
        if penalty is not None:
            lowered = scores - penalty
            scores = torch.where(lowered.isfinite().any(-1, keepdim=True), lowered, scores)
        probs = scores.softmax(-1)
        index = sample_categorical(probs, noise.uniform(t, ModelStream.CODES, (logits.shape[1],)))
        drawn = codes.codes.gather(1, index[..., None].expand(-1, -1, NUM_AXES))
        return one_hot(drawn, NUM_CLASSES, logits.dtype).log()
