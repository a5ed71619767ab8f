"""Periodic space: lattices, fractional coordinates, distances. Tensors and arrays only; no chemistry."""
