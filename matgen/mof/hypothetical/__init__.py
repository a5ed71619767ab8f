"""Hypothetical frameworks: building blocks placed on the vertices and edges of nets by PORMAKE (an extra, MIT)."""
