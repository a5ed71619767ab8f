"""The spaces of SymmCD, and the configurations that a winner is held against."""

from dataclasses import replace

from matgen.config import Experiment
from matgen.diffusion.gaussian import GaussianConfig
from matgen.models.symmcd import paper_config
from sweeps.spaces import Parameter, Space, Value, choice, join, log_uniform, presets

_PROCESS = "model.process"
_VARIANCE_PRESERVING = ("lattice", "species", "site_symmetry")


def _schedule(field: str, *reaches: float) -> Parameter:
    """The kind of a field's noise schedule; those that can end early also with the share of the way they take."""
    key = f"{_PROCESS}.{field}.schedule"
    options: dict[str, dict[str, Value]] = {"linear": {f"{key}.kind": "linear", f"{key}.reach": 1.0}}
    for kind in ("cosine", "sigmoid"):
        for reach in reaches:
            options[f"{kind} {reach:g}"] = {f"{key}.kind": kind, f"{key}.reach": reach}
    return presets(f"schedule.{field}", options)


SCHEDULES = Space(
    name="schedules",
    summary="kind and reach of every field's noise schedule, the coordinates' sigmas, the number of steps",
    parameters=(
        _schedule("lattice", 0.6, 1.0),
        log_uniform(f"{_PROCESS}.coords.sigmas.sigma_min", 0.001, 0.02),
        log_uniform(f"{_PROCESS}.coords.sigmas.sigma_max", 0.2, 1.0),
        _schedule("species", 0.2, 0.4, 0.7, 1.0),
        _schedule("site_symmetry", 0.1, 0.2, 0.4, 0.7, 1.0),
        choice(
            "num_steps",
            *(250, 500, 1000, 2000),
            keys=(
                f"{_PROCESS}.coords.sigmas.num_steps",
                *(f"{_PROCESS}.{field}.schedule.num_steps" for field in _VARIANCE_PRESERVING),
            ),
        ),
    ),
    first=(
        {"schedule.species": "cosine 1", "schedule.site_symmetry": "cosine 1"},  # all fields at once, as published
        {"schedule.species": "cosine 0.7", "schedule.site_symmetry": "cosine 0.4"},
    ),
)

EMBEDDINGS = Space(
    name="embeddings",
    summary="sizes of the embeddings of time, space group, site symmetry, distances, and of the latent",
    parameters=(
        choice("model.network.time_dim", 10, 32, 64, 128, 256),
        choice("model.network.group_hidden", 32, 64, 128, 256),
        choice("model.network.axis_dim", 4, 8, 16, 32),
        choice("model.network.num_frequencies", 8, 16, 32, 64, 128),
        choice("model.network.latent", 32, 64, 128, 256, 512),
    ),
)

NETWORK = Space(
    name="network",
    summary="width, depth and parts of the network",
    parameters=(
        choice("model.network.hidden", 128, 192, 256, 384, 512),
        choice("model.network.num_layers", 3, 4, 5, 6, 8),
        choice("model.network.time_modulation", True, False),
    ),
)

LOSSES = Space(
    name="losses",
    summary="weights of the fields in the loss, coordinates at 1",
    parameters=(
        *(log_uniform(f"model.weights.{field}", 0.05, 20.0) for field in _VARIANCE_PRESERVING),
        log_uniform("model.weights.coords", 0.5, 4.0),
    ),
)

OPTIMISER = Space(
    name="optimiser",
    summary="learning rate, batch size, decay of the average, weight decay",
    parameters=(
        log_uniform("train.learning_rate", 1e-4, 5e-3),
        choice("train.batch_size", 64, 128, 256, 512),
        choice("train.ema_decay", 0.0, 0.99, 0.995, 0.999),
        choice("train.weight_decay", 0.0, 0.01, 0.1),
    ),
)

POPULATION = Space(
    name="population",
    summary="what may change in the middle of a training: for --scheduler pbt",
    parameters=(log_uniform("train.learning_rate", 1e-4, 5e-3), *LOSSES.parameters),
)

SMALL_WINNER: dict[str, Value] = {  # of a small sweep on MP-20, level with the defaults: see experiments/LOG.md
    "schedule.lattice": "sigmoid 1",
    f"{_PROCESS}.coords.sigmas.sigma_min": 0.0011,
    f"{_PROCESS}.coords.sigmas.sigma_max": 0.44,
    "num_steps": 250,
    "model.network.time_dim": 32,
    "model.network.num_frequencies": 128,
    "train.learning_rate": 2.1e-3,
}

SCHEDULES_AND_EMBEDDINGS = join(
    "schedules_embeddings",
    "noise schedules, embedding sizes and the learning rate together",
    *(replace(SCHEDULES, first=()), EMBEDDINGS),
    Space(name="", summary="", parameters=OPTIMISER.parameters[:1], first=(SMALL_WINNER, *SCHEDULES.first)),
)

EVERYTHING = join(
    "everything", "all of the above but the batch", SCHEDULES, EMBEDDINGS, NETWORK, LOSSES,
    Space(name="", summary="", parameters=tuple(p for p in OPTIMISER.parameters if p.name != "train.batch_size")),
)  # fmt: skip

DEMO = Space(
    name="demo",
    summary="a few parameters that matter within minutes, for the tiny network",
    parameters=(
        log_uniform("train.learning_rate", 5e-4, 1e-2),
        _schedule("species", 0.2, 0.4, 0.7, 1.0),
        _schedule("site_symmetry", 0.2, 0.4, 1.0),
        log_uniform(f"{_PROCESS}.coords.sigmas.sigma_max", 0.2, 1.0),
        choice("model.network.hidden", 32, 48, 96),
        choice("model.network.time_dim", 8, 16, 32),
    ),
    first=({"schedule.species": "cosine 1", "schedule.site_symmetry": "cosine 1"},),
)

PAPER_LOSSES = Space(
    name="paper_losses",
    summary="the published grid: lambda_k, lambda_A, lambda_S in {0.1, 0.5, 1, 5, 10}^3 at lambda_X = 1",
    parameters=(
        *(choice(f"model.weights.{field}", 0.1, 0.5, 1.0, 5.0, 10.0) for field in _VARIANCE_PRESERVING),
        choice("model.weights.coords", 1.0),
    ),
    search="grid",
)

PAPER_NETWORK = Space(
    name="paper_network",
    summary="the published random search of 150 runs: depth, width, time embedding, layer norm, latent",
    parameters=(
        choice("model.network.num_layers", 6, 8, 12, 16),
        choice("model.network.hidden", 256, 512, 1024),
        choice("model.network.time_dim", 10, 64, 256),
        choice("model.network.layer_norm", True, False),
        choice("model.network.latent", 128, 256, 512),
    ),
    search="random",
)

SPACES = (
    *(DEMO, SCHEDULES, EMBEDDINGS, SCHEDULES_AND_EMBEDDINGS, NETWORK, LOSSES, OPTIMISER, POPULATION, EVERYTHING),
    *(PAPER_LOSSES, PAPER_NETWORK),
)


def paper_baseline(experiment: Experiment) -> Experiment:
    """The published processes, losses, independent axes and plain readouts, in a network of the experiment's size.

    The published network itself is 60 million parameters; at the cost of a small one it would be no opponent. The bound
    on x_0, which acts in sampling alone, stays: without it no sampler of fewer than the published 1,000 steps works.
    """
    paper, own = paper_config(), experiment.model.network
    sizes = {name: getattr(own, name) for name in ("hidden", "num_layers", "latent", "num_frequencies", "group_hidden")}
    process = replace(paper.process, lattice=replace(paper.process.lattice, x_0_limit=GaussianConfig().x_0_limit))
    return replace(experiment, model=replace(paper, process=process, network=replace(paper.network, **sizes)))


BASELINES = {"paper": paper_baseline}
