"""Noise processes on tensors. They know no network."""
