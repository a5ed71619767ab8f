"""Models and settings small enough to train in a test."""

from dataclasses import replace

import pytest
import torch
from toy import Toy

from matgen.data.priors import Priors
from matgen.models.symmcd import SymmCD, SymmCDConfig
from matgen.nn.cspnet import tiny_network
from matgen.training.state import TrainConfig


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="session")
def tiny_config() -> SymmCDConfig:
    return SymmCDConfig(network=replace(tiny_network(), hidden=24, num_layers=1, num_frequencies=4))


@pytest.fixture
def tiny(tiny_config: SymmCDConfig, priors: Priors) -> SymmCD:
    torch.manual_seed(0)
    return SymmCD(tiny_config, priors)


@pytest.fixture
def train_config() -> TrainConfig:
    return TrainConfig(
        max_steps=24,
        batch_size=8,
        warmup_steps=4,
        log_every=3,
        validate_every=8,
        checkpoint_every=5,
        learning_rate=0.01,
    )
