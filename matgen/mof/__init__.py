"""Reticular chemistry: bonds, building blocks, decomposition and assembly of metal-organic frameworks."""
