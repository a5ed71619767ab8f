"""A triplet network in the manner of GemNet-T: invariant node and edge features, equivariant vectors for scores."""

from matgen.nn.gemnet.graph import EdgeGraph, GraphConfig, build_graph
from matgen.nn.gemnet.network import Features, GemNet, GemNetConfig, VectorReadout
from matgen.nn.gemnet.periodic import NeighborConfig, PeriodicEdges, nearest_neighbors, periodic_vectors
from matgen.nn.gemnet.readout import GraphReadout, ReadoutConfig

__all__ = [
    "EdgeGraph",
    "Features",
    "GemNet",
    "GemNetConfig",
    "GraphConfig",
    "GraphReadout",
    "NeighborConfig",
    "PeriodicEdges",
    "ReadoutConfig",
    "VectorReadout",
    "build_graph",
    "nearest_neighbors",
    "periodic_vectors",
]
