"""UFF4MOF atom types from the bond graph: every atom gets a type, and every guess is recorded."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.structure import Structure
from matgen.errors import StructureError
from matgen.mof.bonds import Bonds
from matgen.relaxation.uff_environment import Environment, aromatic_bonds
from matgen.relaxation.uff_metal_types import metal_type
from matgen.relaxation.uff_orders import bond_orders, is_amide_carbon, is_carboxylate
from matgen.relaxation.uff_parameters import types_of_element, uff_types

__all__ = ["UffTyping", "UntypedAtomError", "type_atoms"]

_H, _B, _C, _N, _O, _SI, _P, _S = 1, 5, 6, 7, 8, 14, 15, 16
_PLANAR_SUM = 345.0  # degrees; three angles that add up to more lie almost in a plane (oxide of a Zr6 node: 351)
_Choice = tuple[str, str]  # type, and why it is a guess ("" where it is not)


class UntypedAtomError(StructureError):
    """The force field has no parameters for an element."""

    status = "untyped_atom"


@dataclass(frozen=True, eq=False)
class UffTyping:
    """Types of the atoms and orders of the bonds.

    names: published type of each atom. coordination: what geometry the atom's angles take, "" to "8", the type's own
    unless guessed. angle: degrees, the natural angle at each atom. orders: float64 [b]. guessed: one entry per kind of
    guess, as "Ni4+2 for Ni with 6 neighbours (x4)"; empty where every atom has a published type.
    """

    names: tuple[str, ...]
    coordination: tuple[str, ...]
    angle: np.ndarray
    orders: np.ndarray
    guessed: tuple[str, ...]


def type_atoms(structure: Structure, bonds: Bonds) -> UffTyping:
    """UFF4MOF types from a structure and its bonds; nothing is perceived anew.

    Args:
        structure: any structure.
        bonds: each periodic bond once.

    Returns:
        types and bond orders. An atom whose environment no published type covers gets its element's nearest type, and
        `guessed` says so.

    Raises:
        UntypedAtomError: an element without parameters (Z above 103).
    """
    for number in np.unique(structure.atomic_numbers).tolist():
        if not types_of_element(number):
            count = int((structure.atomic_numbers == number).sum())
            raise UntypedAtomError(f"UFF has no parameters for {SYMBOLS[number]} ({count} atoms)")
    env = Environment(structure, bonds)
    aromatic = aromatic_bonds(env)
    ring_atoms = {atom for bond in aromatic for atom in (env.first[bond], env.second[bond])}
    names, coordination, angle, guesses = [], [], [], []
    for index in range(structure.num_atoms):
        if env.is_metal[index]:
            name, why, shape, degrees = metal_type(env, index)
        else:
            name, why = _light_type(env, index, ring_atoms)
            shape, degrees = uff_types()[name].coordination, uff_types()[name].angle
        names.append(name)
        coordination.append(shape)
        angle.append(degrees)
        if why:
            guesses.append(f"{name} for {SYMBOLS[env.numbers[index]]} {why}")
    guessed = tuple(f"{text} (x{count})" for text, count in sorted(Counter(guesses).items()))
    return UffTyping(tuple(names), tuple(coordination), np.array(angle), bond_orders(env, aromatic), guessed)


def _light_type(env: Environment, index: int, ring_atoms: set[int]) -> _Choice:
    number = env.numbers[index]
    if not env.near[index]:
        return _generic(number), "without neighbours"
    if number == _H:
        return _hydrogen(env, index)
    if number == _C:
        return _carbon(env, index, ring_atoms)
    if number == _N:
        return _nitrogen(env, index, ring_atoms)
    if number == _O:
        return _oxygen(env, index, ring_atoms)
    if number == _S:
        return _sulfur(env, index, ring_atoms)
    if number == _P:
        return _phosphorus(env, index)
    if number == _B:
        count = env.count(index) + len(env.heavy[index])
        return ("B_2" if count <= 3 else "B_3"), (f"with {count} neighbours" if count > 4 else "")
    count = len(env.near[index])
    most = 1 if uff_types()[_generic(number)].angle == 180 else 4
    return _generic(number), (f"with {count} neighbours" if count > most else "")


def _generic(number: int) -> str:
    preferred = {_H: "H_", _B: "B_3", _C: "C_3", _N: "N_3", _O: "O_3", _P: "P_3+5", _S: "S_3+2"}
    return preferred.get(number, types_of_element(number)[0].name)


def _hydrogen(env: Environment, index: int) -> _Choice:
    near = env.near[index]
    if len(near) == 1:
        return "H_", ""
    if len(near) == 2 and all(env.numbers[n.index] == _B for n in near):
        return "H_b", ""
    return "H_", f"with {len(near)} neighbours"


def _carbon(env: Environment, index: int, ring_atoms: set[int]) -> _Choice:
    count = env.count(index)
    if count >= 4:
        return "C_3", ("" if count == 4 else f"with {count} neighbours")
    if count == 3:
        resonant = index in ring_atoms or is_carboxylate(env, index) or is_amide_carbon(env, index)
        return ("C_R" if resonant else "C_2"), ""
    if count == 2:
        bent = env.cosines(index).max() > -0.85 if not env.heavy[index] else False
        return ("C_2", "with 2 neighbours, bent") if bent else ("C_1", "")
    if count == 1:
        return "C_1", ""
    return "C_3", "with metals alone"


def _nitrogen(env: Environment, index: int, ring_atoms: set[int]) -> _Choice:
    count, near = env.count(index), env.light[index]
    if index in ring_atoms:
        return "N_R", ""
    if count >= 4:
        return "N_3", ("" if count == 4 else f"with {count} neighbours")
    planar = any(env.is_planar_carbon(n.index) for n in near)
    if count == 3:
        nitro = sum(env.is_terminal(n.index) for n in near) >= 2
        conjugated = planar or any(env.numbers[n.index] == _N and env.count(n.index) == 2 for n in near)
        return ("N_R" if nitro or (conjugated and not env.heavy[index]) else "N_3"), ""
    if count == 2:
        if float(near[0].direction @ near[1].direction) < -0.85:
            return "N_1", ""
        other = any(env.numbers[n.index] in (_N, _O, _S, _P) and env.count(n.index) <= 2 for n in near)
        return ("N_2" if planar or other or not env.heavy[index] else "N_3"), ""
    if count == 1:
        return ("N_1" if env.count(near[0].index) <= 2 else "N_2"), ""
    return ("N_1" if len(env.heavy[index]) <= 2 else "N_3"), "with metals alone"


def _oxygen(env: Environment, index: int, ring_atoms: set[int]) -> _Choice:
    count, metals = env.count(index), len(env.heavy[index])
    if index in ring_atoms:
        return "O_R", ""
    if count == 0:
        return _bridging_oxide(env, index, metals)
    if count >= 2:
        if count == 2 and metals == 0 and all(env.numbers[n.index] == _SI for n in env.light[index]):
            return "O_3_z", ""
        return "O_3", ("" if count == 2 and metals <= 2 else f"with {count + metals} neighbours")
    partner = env.light[index][0].index
    if metals >= 3:
        return "O_3_f", ("" if metals == 3 else f"with {count + metals} neighbours")
    if env.numbers[partner] == _H:
        return ("O_2" if metals == 2 else "O_3"), ("without a metal or a second hydrogen" if metals == 0 else "")
    if env.numbers[partner] == _C and env.count(partner) >= 4:
        return "O_3", ""
    return "O_2", ""


def _bridging_oxide(env: Environment, index: int, metals: int) -> _Choice:
    if metals <= 2:
        return "O_2", ""
    if metals == 3:
        angles = np.degrees(np.arccos(np.clip(env.cosines(index), -1, 1)))
        return ("O_2_z" if angles.sum() > _PLANAR_SUM else "O_3_f"), ""
    return "O_3_f", ("" if metals == 4 else f"with {metals} neighbours")


def _sulfur(env: Environment, index: int, ring_atoms: set[int]) -> _Choice:
    count, metals = env.count(index), len(env.heavy[index])
    if index in ring_atoms:
        return "S_R", ""
    if count == 0:
        return ("S_3_f" if metals == 3 else "S_3+2"), ("" if metals <= 3 else f"with {metals} neighbours")
    if count == 1:
        return ("S_2" if metals == 0 else "S_3+2"), ""
    if count == 2:
        return "S_3+2", ""
    if count == 3:
        return "S_3+4", ""
    return "S_3+6", ("" if count == 4 else f"with {count} neighbours")


def _phosphorus(env: Environment, index: int) -> _Choice:
    count, metals = env.count(index), len(env.heavy[index])
    if count == 4:
        return "P_3+5", ""
    if count == 3:
        return ("P_3+q" if metals else "P_3+3"), ""
    return "P_3+5", f"with {count + metals} neighbours"
