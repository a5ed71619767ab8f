"""The spaces of MOFDiff: those of the block encoder, then those of the coarse diffusion."""

from dataclasses import replace
from typing import Any

from sweeps.spaces import Space, Value, choice, log_uniform, presets

_BLOCKS = "blocks.model"

BLOCK_CONTRAST = Space(
    name="contrast",
    summary="temperatures and margin of the contrastive loss, weights of the heads, the learning rate",
    parameters=(
        log_uniform(f"{_BLOCKS}.contrast.temperature", 0.02, 0.5),
        log_uniform(f"{_BLOCKS}.contrast.target_temperature", 0.02, 0.5),
        choice(f"{_BLOCKS}.contrast.margin", 0.0, 0.1, 0.2, 0.3),
        log_uniform(f"{_BLOCKS}.weights.num_atoms", 0.05, 2.0),
        log_uniform(f"{_BLOCKS}.weights.diameter", 0.1, 20.0),
        log_uniform("blocks.train.learning_rate", 1e-4, 3e-3),
    ),
)

BLOCK_NETWORK = Space(
    name="encoder",
    summary="cut-off, radial and angular functions, width, depth and latent of the block encoder",
    parameters=(
        choice(f"{_BLOCKS}.graph.cutoff", 5.0, 6.0, 7.0, 8.0),
        choice(f"{_BLOCKS}.graph.num_radial", 8, 16, 32, 64),
        choice(f"{_BLOCKS}.graph.num_angular", 3, 5, 7),
        choice(f"{_BLOCKS}.network.node_dim", 32, 64, 128, 192),
        choice(f"{_BLOCKS}.network.num_layers", 2, 3, 4),
        choice(f"{_BLOCKS}.latent_dim", 16, 32, 64),
        log_uniform("blocks.train.learning_rate", 1e-4, 3e-3),
    ),
)

_FEATURES = "model.features.schedule"
_SIGMAS = "model.coords.sigmas"
_KINDS: dict[str, dict[str, Value]] = {
    "linear": {f"{_FEATURES}.kind": "linear", f"{_FEATURES}.reach": 1.0},
    **{
        f"{kind} {reach:g}": {f"{_FEATURES}.kind": kind, f"{_FEATURES}.reach": reach}
        for kind in ("cosine", "sigmoid")
        for reach in (0.5, 0.8, 1.0)
    },
}

FRAMEWORK_SCHEDULES = Space(
    name="frameworks",
    summary="noise schedules of embeddings and centres, latent, weight of the KL term, cut-off, the learning rate",
    parameters=(
        presets("schedule.features", _KINDS),
        log_uniform(f"{_SIGMAS}.sigma_min", 0.0005, 0.01),
        log_uniform(f"{_SIGMAS}.sigma_max", 0.3, 1.2),
        choice("num_steps", 250, 500, 1000, 2000, keys=(f"{_SIGMAS}.num_steps", f"{_FEATURES}.num_steps")),
        log_uniform("model.weights.kl", 1e-5, 0.1),
        choice("model.latent.dim", 16, 32, 64, 128),
        choice("model.score.graph.cutoff", 3.0, 4.0, 5.0),
        choice("model.feature_output", "velocity", "eps"),
        log_uniform("train.learning_rate", 1e-4, 3e-3),
    ),
)

BLOCK_POPULATION = Space(
    name="population",
    summary="what may change in the middle of a training: for --scheduler pbt",
    parameters=(
        log_uniform("blocks.train.learning_rate", 1e-4, 3e-3),
        log_uniform(f"{_BLOCKS}.weights.num_atoms", 0.05, 2.0),
        log_uniform(f"{_BLOCKS}.weights.diameter", 0.1, 20.0),
    ),
)

FRAMEWORK_POPULATION = Space(
    name="population",
    summary="what may change in the middle of a training: for --scheduler pbt",
    parameters=(log_uniform("train.learning_rate", 1e-4, 3e-3), log_uniform("model.weights.kl", 1e-5, 0.1)),
)


def paper_blocks(experiment: Any) -> Any:
    """The published targets and loss weights of the block encoder, in a network of the experiment's size."""
    from matgen.models.block_encoder import paper_config

    paper, own = paper_config(), experiment.blocks.model
    sizes = {name: getattr(own, name) for name in ("graph", "network", "readout", "hidden", "num_hidden")}
    return replace(experiment, blocks=replace(experiment.blocks, model=replace(paper, **sizes)))


def paper_frameworks(experiment: Any) -> Any:
    """The published processes and losses of the coarse diffusion, in networks of the experiment's size."""
    from matgen.models.mofdiff import paper_config

    paper, own = paper_config(), experiment.model
    latent = replace(own.latent, dim=paper.latent.dim)
    return replace(experiment, model=replace(paper, latent=latent, score=own.score))
