import math

import pytest
import torch
from torch import nn

from matgen.errors import ConfigError
from matgen.training.optimizer import Ema, build_optimizer, freeze, learning_rate

SETTINGS = {"base": 2.0, "warmup_steps": 10, "total_steps": 110, "final": 0.1}


@pytest.mark.parametrize(
    ("decay", "step", "expected"),
    [
        ("cosine", 0, 0.2),
        ("cosine", 9, 2.0),
        ("cosine", 10, 2.0),
        ("cosine", 60, 2 * (0.1 + 0.9 * 0.5)),
        ("cosine", 35, 2 * (0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)),
        ("cosine", 110, 0.2),
        ("cosine", 10_000, 0.2),
        ("linear", 60, 2 * (0.1 + 0.9 * 0.5)),
        ("linear", 35, 2 * (0.1 + 0.9 * 0.75)),
        ("constant", 109, 2.0),
    ],
)
def test_learning_rate(decay, step, expected):
    assert learning_rate(step, decay=decay, **SETTINGS) == pytest.approx(expected)


def test_learning_rate_without_warmup_and_with_an_unknown_decay():
    assert learning_rate(0, **{**SETTINGS, "warmup_steps": 0}, decay="linear") == 2.0
    with pytest.raises(ValueError, match="cosine, linear or constant"):
        learning_rate(50, decay="steps", **SETTINGS)


def test_ema_formula():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    ema = Ema(model, 0.5)
    expected = 1.0
    for update, value in enumerate([3.0, -1.0, 2.0, 8.0, 5.0, 1.0, 0.5]):
        nn.init.constant_(model.weight, value)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
        ema.update(model)
        assert ema.weights["weight"].item() == pytest.approx(expected, rel=1e-6)
    with ema.applied_to(model):
        assert model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert model.weight.item() == 0.5


def test_ema_puts_the_weights_back_after_an_error():
    model = nn.Linear(1, 1)
    ema, before = Ema(model, 0.9), model.weight.item()
    ema.weights["weight"] += 1
    with pytest.raises(RuntimeError), ema.applied_to(model):
        raise RuntimeError
    assert model.weight.item() == before
    with pytest.raises(ValueError, match="decay"):
        Ema(model, 1.0)


def test_only_matrices_decay_and_without_decay_it_is_adam():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    optimizer = build_optimizer(model, 0.1, (0.9, 0.999), 0.3)
    decayed = [tuple(p.shape) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]]
    assert decayed == [(4, 3)]

    other = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    other.load_state_dict(model.state_dict())
    ours, adam = build_optimizer(model, 0.1, (0.9, 0.99), 0.0), torch.optim.Adam(other.parameters(), 0.1, (0.9, 0.99))
    for _ in range(3):
        for network, chosen in ((model, ours), (other, adam)):
            chosen.zero_grad()
            network(torch.ones(2, 3)).square().sum().backward()
            chosen.step()
    for first, second in zip(model.parameters(), other.parameters()):
        assert torch.allclose(first, second, atol=1e-6)


def test_frozen_weights_stay_and_the_others_learn():
    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "score": nn.Linear(2, 1)})
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    freeze(model, ("encoder.", "score.bias"))
    optimizer = build_optimizer(model, 0.1, (0.9, 0.999), 0.1)
    model["score"](model["encoder"](torch.ones(3, 2))).square().sum().backward()
    optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"score.weight"}


def test_frozen_names_that_are_none_are_refused():
    with pytest.raises(ConfigError, match=r"train.frozen: no weights begin with sorce. \(there are: encoder, score\)"):
        freeze(nn.ModuleDict({"encoder": nn.Linear(2, 2), "score": nn.Linear(2, 1)}), ("encoder.", "sorce."))
