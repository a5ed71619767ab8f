"""Losses of the coarse diffusion that need no network."""

import pytest
import torch

from matgen.models.mofdiff_losses import count_loss


def test_a_count_beyond_training_costs_what_the_largest_costs() -> None:
    """A validation framework may have more blocks than any of training: that ended the run with an index error."""
    logits = torch.tensor([[0.5, -1.0, 2.0]])
    most, beyond = (float(count_loss(logits, torch.tensor([count]))) for count in (2, 26))
    assert beyond == most == pytest.approx(float(-logits.log_softmax(dim=1)[0, 2]))
