"""Records, batches, splits and priors: arrays and tensors only."""
