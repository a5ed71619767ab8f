"""Energies, forces and relaxation."""
