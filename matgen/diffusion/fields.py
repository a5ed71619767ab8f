"""The diffused fields of a batch of crystals, and what is said about them by data, noise and denoisers."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, runtime_checkable

from torch import Tensor

from matgen.shapes import Bool, Float, Int


class Stream(IntEnum):
    """What a random number is for: the streams of CounterNoise. Models take theirs from MODEL upwards."""

    TIME = 0
    LATTICE = 1
    COORDS = 2
    SPECIES = 3
    SITE_SYMMETRY = 4
    CORRECTOR = 5
    PRIOR_LATTICE = 6
    PRIOR_COORDS = 7
    PRIOR_SPECIES = 8
    PRIOR_SITE_SYMMETRY = 9
    MODEL = 16


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The diffused fields of a batch of crystals: data, or a noisy state. Padded slots hold 0."""

    lattice_k: Float[Tensor, "B 6"]  # standardised; masked components are 0
    frac_coords: Float[Tensor, "B M 3"]
    species_index: Int[Tensor, "B M"]  # noisy states may hold the mask, index num_classes
    site_symmetry: Int[Tensor, "B M 15"]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the process must know of each crystal besides its fields."""

    mask: Bool[Tensor, "B M"]  # true at orbits, false at padding
    lattice_mask: Bool[Tensor, "B 6"]  # true at components that the space group leaves free
    species_prior: Float[Tensor, "... S"]  # [S] or [B, S]
    site_symmetry_prior: Float[Tensor, "B 15 13"]


@dataclass(frozen=True, kw_only=True)
class Corrupted:
    """A noisy state with the regression targets of its real-valued fields."""

    x_t: Fields
    lattice_eps: Float[Tensor, "B 6"]
    coord_score: Float[Tensor, "B M 3"]  # score / sqrt(lambda_t)


@runtime_checkable
class Prediction(Protocol):
    """What a denoiser says of the state at t. Impossible classes have the logit -inf; a certain one all others so."""

    @property
    def lattice_eps(self) -> Tensor:
        """[B, 6]."""

    @property
    def coord_score(self) -> Tensor:
        """[B, M, 3], score / sqrt(lambda_t)."""

    @property
    def species_logits(self) -> Tensor:
        """[B, M, S], of the data."""

    @property
    def site_symmetry_logits(self) -> Tensor:
        """[B, M, 15, 13], of the data."""
