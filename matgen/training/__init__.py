"""One process of training, without Ray."""
