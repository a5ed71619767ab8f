"""Shape aliases, checked at run time in tests (jaxtyping with beartype).

Axis names: B crystals in a batch, M orbits of a crystal (padded), N atoms, O operations of a space group, U = 15
symmetry axes, V = 13 classes per axis, S species, K = 6 lattice components.
"""

from jaxtyping import Bool, Float, Int, UInt8

__all__ = ["Bool", "Float", "Int", "UInt8"]
