"""Crystallography without learning: CIF, space groups, Wyckoff positions."""
