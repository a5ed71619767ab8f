"""Sweeps: many small trainings, judged by the samples they give, on a laptop or on a cluster."""
