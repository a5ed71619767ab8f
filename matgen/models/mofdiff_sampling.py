"""What frameworks to make, how, and what comes out."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matgen.diffusion.fields import Stream


class CoarseStream(IntEnum):
    """Streams of random numbers that belong to this model."""

    LATENT = Stream.MODEL
    FEATURES = Stream.MODEL + 1
    COORDS = Stream.MODEL + 2
    LATTICE = Stream.MODEL + 3
    LATTICE_SOURCE = Stream.MODEL + 4
    CONDITION = Stream.MODEL + 5
    PRIOR = Stream.MODEL + 6
    PRIOR_TIME = Stream.MODEL + 7
    PRIOR_START = Stream.MODEL + 8
    FEATURES_START = Stream.MODEL + 9
    COORDS_START = Stream.MODEL + 10
    COUNTS = Stream.MODEL + 11
    START = Stream.MODEL + 12


@dataclass(frozen=True, kw_only=True)
class CoarseSamplerConfig:
    """Settings of sampling; the published sampler takes every step (num_steps = T) with eta = 1.

    `eta` 0 is deterministic once the noise of the start is drawn. With 100 steps it gives more frameworks that close
    without a clash: 23 against 10 of 272 (samples of three checkpoints, one choice of blocks each; Fisher p = 0.03).

    `guidance` sharpens the condition in the latent's distribution, which costs next to nothing; `score_guidance` in
    the score network, at twice its calls. 0 is the plain conditional model. `count_temperature` 0 takes the most
    probable numbers of blocks and metal nodes.

    `metal_nodes_as_drawn` makes as many blocks metal nodes, at each step, as the latent asks for. Left to itself the
    network does so for 70 % of frameworks (n = 1,000), and the others close less often. Where blocks are drawn before
    their centres, and in the published sampler, it is left to itself.
    """

    num_steps: int = 100
    grid_power: float = 1.0
    eta: float = 0.0
    guidance: float = 1.0
    score_guidance: float = 0.0
    latent_steps: int = 100
    count_temperature: float = 1.0
    metal_nodes_as_drawn: bool = True

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.latent_steps < 1 or self.grid_power <= 0 or self.eta < 0:
            raise ValueError(f"need num_steps and latent_steps >= 1, grid_power > 0, eta >= 0, not {self}")


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseRequest:
    """One row per framework to make.

    Args:
        seeds: `[B]` int64 from `row_seed(seed, sample_id)`, from which all randomness of a row follows.
        properties: `[B, P]` wanted, not standardised, NaN where any will do; None: any.
        latent: `[B, Z]`, for instance optimised; None: drawn.
        num_blocks: `[B]`, 0 where free; None: free.
        num_metal: `[B]`, -1 where free; None: free.
    """

    seeds: Int[Tensor, "B"]
    properties: Float[Tensor, "B P"] | None = None
    latent: Float[Tensor, "B Z"] | None = None
    num_blocks: Int[Tensor, "B"] | None = None
    num_metal: Int[Tensor, "B"] | None = None

    def __len__(self) -> int:
        return len(self.seeds)

    def select(self, rows: Int[Tensor, "R"] | slice) -> "CoarseRequest":
        """Some of the rows."""

        def part(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[rows]

        return CoarseRequest(
            seeds=self.seeds[rows],
            properties=part(self.properties),
            latent=part(self.latent),
            num_blocks=part(self.num_blocks),
            num_metal=part(self.num_metal),
        )


@dataclass(frozen=True, eq=False)
class SampledFeatures:
    """What is sampled of the blocks of B frameworks.

    Attributes:
        num_blocks: int64[B].
        embedding: float32[n, D], not standardised: compare with the library's.
        is_metal: bool[n]; all False where the model does not diffuse it (look at the embedding then).
        metal_score: float32[n], near 1 for metal nodes and -1 for others; 0 where not diffused.
        num_connections: float32[n], not rounded; NaN where not diffused.
    """

    num_blocks: Int[Tensor, "B"]
    embedding: Float[Tensor, "n D"]
    is_metal: Bool[Tensor, "n"]
    metal_score: Float[Tensor, "n"]
    num_connections: Float[Tensor, "n"]


@dataclass(frozen=True, eq=False)
class ChosenBlocks:
    """Blocks of a library that stand for sampled ones.

    Attributes:
        index: int64[n], rows of the library.
        embedding: float32[n, D], theirs.
        is_metal: bool[n].
        num_connections: int64[n].
    """

    index: Int[Tensor, "n"]
    embedding: Float[Tensor, "n D"]
    is_metal: Bool[Tensor, "n"]
    num_connections: Int[Tensor, "n"]


BlockChooser = Callable[[SampledFeatures], ChosenBlocks]


@dataclass(frozen=True, eq=False)
class CoarseSamples:
    """Sampled coarse frameworks, one after the other.

    Attributes:
        num_blocks: int64[B].
        num_metal: int64[B], metal nodes that the latent asks for.
        lattice: float32[B, 3, 3], rows a, b, c; Å.
        latent: float32[B, Z].
        predicted_properties: float32[B, P] of the property head, not standardised.
        graph_index: int64[n].
        frac_coords: float32[n, 3] in [0, 1).
        blocks: as sampled, before any was looked up.
        chosen: the blocks that centres were drawn for; None where embeddings and centres were drawn together.
    """

    num_blocks: Int[Tensor, "B"]
    num_metal: Int[Tensor, "B"]
    lattice: Float[Tensor, "B 3 3"]
    latent: Float[Tensor, "B Z"]
    predicted_properties: Float[Tensor, "B P"]
    graph_index: Int[Tensor, "n"]
    frac_coords: Float[Tensor, "n 3"]
    blocks: SampledFeatures
    chosen: ChosenBlocks | None


def draw_counts(
    block_logits: Float[Tensor, "B K"],
    metal_logits: Float[Tensor, "B K"],
    count_prob: Float[Tensor, "K K"],
    request: CoarseRequest,
    uniform: Float[Tensor, "B"],
    temperature: float,
) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"]]:
    """Numbers of blocks and metal nodes together, among the pairs that the training set has.

    Args:
        block_logits: of the numbers of blocks.
        metal_logits: of the numbers of metal nodes.
        count_prob: share of each pair in the training set.
        request: fixed numbers; a fixed pair that the training set lacks is taken as it is.
        uniform: numbers in [0, 1).
        temperature: 0 takes the most probable pair.

    Returns:
        num_blocks and num_metal.
    """
    size = len(count_prob)
    joint = (block_logits.double().log_softmax(-1)[:, :, None] + metal_logits.double().log_softmax(-1)[:, None]).clone()
    joint[:, count_prob <= 0] -= 1e4  # still ordered, should a request leave nothing else
    counts = torch.arange(size, device=joint.device)
    joint.masked_fill_((counts > counts[:, None]) | (counts[:, None] == 0), -torch.inf)
    if request.num_blocks is not None:
        wanted = request.num_blocks[:, None]
        joint.masked_fill_(((wanted > 0) & (wanted != counts))[:, :, None], -torch.inf)
    if request.num_metal is not None:
        wanted = request.num_metal[:, None]
        joint.masked_fill_(((wanted >= 0) & (wanted != counts))[:, None], -torch.inf)
    flat = joint.flatten(1)
    if temperature > 0:
        cumulated = (flat / temperature).softmax(-1).cumsum(-1)
        index = (cumulated <= uniform[:, None] * cumulated[:, -1:]).sum(-1).clamp(max=size * size - 1)
    else:
        index = flat.argmax(-1)
    return index // size, index % size
