"""Bond orders, as UFF's bond lengths and torsions use them, from the bond graph."""

import numpy as np

from matgen.relaxation.uff_environment import Environment, Neighbor

__all__ = ["AMIDE_ORDER", "bond_orders", "is_amide_carbon", "is_carboxylate"]

AMIDE_ORDER = 1.41  # Rappe et al. 1992
_C, _N, _O, _P, _S = 6, 7, 8, 15, 16
_METAL_OXYGEN, _METAL_METAL = 0.5, 0.25  # Addicoat et al. 2014
_OXO_LENGTH = 1.85  # Å; a terminal oxygen nearer to its metal is doubly bonded (vanadyl, molybdenyl, uranyl)
_RESONANT = {  # order of a bond to each of t terminal oxygens
    _C: {1: 2.0, 2: 1.5, 3: 4 / 3},
    _N: {1: 2.0, 2: 1.5, 3: 4 / 3},
    _P: {1: 2.0, 2: 1.5, 3: 4 / 3, 4: 1.25},
    _S: {1: 2.0, 2: 2.0, 3: 5 / 3, 4: 1.5},
}


def bond_orders(env: Environment, aromatic: set[int]) -> np.ndarray:
    """Bond order of each bond, float64 [b].

    1.5 in aromatic rings, shared evenly in oxo-anions, 1.41 in amides, 0.5 from a metal to oxygen and 0.25 between
    metals, else single, double or triple by the number of neighbours.

    Args:
        env: neighbours.
        aromatic: indices of aromatic bonds.
    """
    orders = np.ones(len(env.first))
    ring_atoms = {atom for bond in aromatic for atom in (env.first[bond], env.second[bond])}
    unsaturated: list[tuple[float, int]] = []
    for bond, (i, j) in enumerate(zip(env.first, env.second, strict=True)):
        if env.is_metal[i] or env.is_metal[j]:
            orders[bond] = _metal_order(env, bond, i, j)
        elif bond in aromatic:
            orders[bond] = 1.5
        else:
            orders[bond] = order = _order(env, i, j, ring_atoms)
            if order == 0.0:
                unsaturated.append((_length(env, bond), bond))
    _pair_double_bonds(env, orders, ring_atoms, sorted(unsaturated))
    return orders


def is_carboxylate(env: Environment, index: int) -> bool:
    """A planar carbon with two or more terminal chalcogens."""
    return env.is_planar_carbon(index) and sum(env.is_terminal(n.index) for n in env.light[index]) >= 2


def is_amide_carbon(env: Environment, index: int) -> bool:
    """A planar carbon with a terminal chalcogen and a nitrogen."""
    near = env.light[index]
    return (
        env.is_planar_carbon(index)
        and any(env.is_terminal(n.index) for n in near)
        and any(env.numbers[n.index] == _N for n in near)
    )


def _length(env: Environment, bond: int) -> float:
    return next(n.length for n in env.near[env.first[bond]] if n.bond == bond)


def _metal_order(env: Environment, bond: int, i: int, j: int) -> float:
    if env.is_metal[i] and env.is_metal[j]:
        return _METAL_METAL
    other = j if env.is_metal[i] else i
    if env.numbers[other] != _O:
        return 1.0
    terminal = len(env.near[other]) == 1
    return 2.0 if terminal and _length(env, bond) < _OXO_LENGTH else _METAL_OXYGEN


def _order(env: Environment, i: int, j: int, ring_atoms: set[int]) -> float:
    """The order of a bond between non-metals; 0 where two unsaturated atoms have yet to be paired."""
    for center, other in ((i, j), (j, i)):
        if env.is_terminal(other) and env.numbers[center] in _RESONANT and center not in ring_atoms:
            return _oxo_order(env, center)
    if env.numbers[i] not in (_C, _N) or env.numbers[j] not in (_C, _N):
        return 1.0
    linear = _is_linear(env, i), _is_linear(env, j)
    if all(linear):
        return 2.0 if _is_cumulated(env, i) or _is_cumulated(env, j) else 3.0
    for center, other in ((i, j), (j, i)):
        if is_amide_carbon(env, center) and env.numbers[other] == _N and env.count(other) == 3:
            return AMIDE_ORDER
    if any(linear):
        center = i if linear[0] else j
        return 2.0 if _is_cumulated(env, center) else 1.0
    return 0.0 if all(_is_unsaturated(env, k) and k not in ring_atoms for k in (i, j)) else 1.0


def _oxo_order(env: Environment, center: int) -> float:
    if env.numbers[center] == _C and env.count(center) > 3:
        return 1.0
    if env.numbers[center] == _C and env.count(center) == 1:
        return 3.0
    terminal = sum(env.is_terminal(n.index) for n in env.light[center])
    if env.numbers[center] == _N and env.count(center) > 3:
        return 1.0
    return _RESONANT[env.numbers[center]].get(terminal, 1.0)


def _is_linear(env: Environment, index: int) -> bool:
    """A two-coordinate carbon or nitrogen without a bend, or the end of a triple bond."""
    near = env.light[index]
    if len(near) == 1:
        other = near[0].index
        return env.numbers[other] in (_C, _N) and env.count(other) <= 2
    return len(near) == 2 and _cosine(near[0], near[1]) < -0.85


def _is_cumulated(env: Environment, index: int) -> bool:
    """The middle of azide, cyanate, carbodiimide: both neighbours are terminal or unsaturated nitrogen or oxygen."""
    near = env.light[index]
    return len(near) == 2 and all(
        env.numbers[n.index] in (_N, _O, _S) and (env.numbers[n.index] != _N or env.count(n.index) <= 2) for n in near
    )


def _cosine(a: Neighbor, b: Neighbor) -> float:
    return float(a.direction @ b.direction)


def _is_unsaturated(env: Environment, index: int) -> bool:
    if env.numbers[index] == _C:
        return env.is_planar_carbon(index) and not any(env.is_terminal(n.index) for n in env.light[index])
    return env.count(index) == 2 or (env.count(index) == 1 and not env.heavy[index])


def _pair_double_bonds(
    env: Environment, orders: np.ndarray, ring_atoms: set[int], waiting: list[tuple[float, int]]
) -> None:
    """Double bonds go to the shortest candidates, one for each atom."""
    taken: set[int] = set()
    for _, bond in waiting:
        ends = {env.first[bond], env.second[bond]}
        orders[bond] = 1.0 if ends & taken else 2.0
        if not ends & taken:
            taken |= ends
