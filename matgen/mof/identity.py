"""Identity and fingerprint of a building block from its bond graph alone, in one fixed convention.

Bond orders, charges and stereochemistry are not perceived: they would depend on geometry, and metal nodes have none
that a valence model accepts. Every bond is single, a bond of a metal is of order zero, a hydrogen with one bond to a
non-metal is a count on its neighbour, and each connection point is a dummy atom on its connecting atom.
"""

import hashlib
from functools import cache
from typing import Any

import numpy as np

from matgen.mof.metals import IS_METAL

__all__ = ["ECFP_BITS", "canonical_smiles", "ecfp4", "identity_name"]

ECFP_BITS = 4096


def canonical_smiles(atomic_numbers: np.ndarray, bonds: np.ndarray, connection_atoms: np.ndarray) -> str:
    """Canonical SMILES of a block's bond graph, independent of the order of atoms and connections.

    Args:
        atomic_numbers: int [n].
        bonds: int [b, 2].
        connection_atoms: int [c].

    Source: Schneider et al., J. Chem. Inf. Model. 55 (2015) 2111 (canonical order).
    """
    from rdkit import Chem

    molecule = _molecule(atomic_numbers, bonds, connection_atoms)
    # Without explicit counts a carbon of three neighbours and no hydrogen is written like one with a hydrogen.
    return str(Chem.MolToSmiles(molecule, isomericSmiles=False, allHsExplicit=True))


def identity_name(role: str, smiles: str) -> str:
    """32 hexadecimal digits that stand for a role and a bond graph."""
    return hashlib.blake2b(f"{role} {smiles}".encode(), digest_size=16).hexdigest()


def ecfp4(atomic_numbers: np.ndarray, bonds: np.ndarray, connection_atoms: np.ndarray) -> np.ndarray:
    """Circular fingerprint of radius 2 of the same graph, packed bits uint8 [512].

    Args:
        atomic_numbers: int [n].
        bonds: int [b, 2].
        connection_atoms: int [c].

    Source: Rogers and Hahn, J. Chem. Inf. Model. 50 (2010) 742.
    """
    molecule = _molecule(atomic_numbers, bonds, connection_atoms)
    return np.packbits(_fingerprints().GetFingerprintAsNumPy(molecule).astype(bool))


@cache
def _fingerprints() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=ECFP_BITS)


def _molecule(atomic_numbers: np.ndarray, bonds: np.ndarray, connection_atoms: np.ndarray) -> Any:
    from rdkit import Chem

    pairs = np.asarray(bonds, dtype=np.int64).reshape(-1, 2)
    counted, hydrogens = _counted_hydrogens(atomic_numbers, pairs, connection_atoms)
    metal = IS_METAL[atomic_numbers].tolist()
    molecule = Chem.RWMol()
    index: list[int] = []
    for number, is_counted, num_hydrogens in zip(
        atomic_numbers.tolist(), counted.tolist(), hydrogens.tolist(), strict=True
    ):
        if is_counted:
            index.append(-1)
            continue
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(num_hydrogens)
        index.append(molecule.AddAtom(atom))
    single, zero = Chem.BondType.SINGLE, Chem.BondType.ZERO
    for i, j in pairs.tolist():
        if index[i] >= 0 and index[j] >= 0:
            molecule.AddBond(index[i], index[j], zero if metal[i] or metal[j] else single)
    for i in connection_atoms.tolist():
        dummy = molecule.AddAtom(Chem.Atom(0))
        molecule.AddBond(index[i], dummy, zero if metal[i] else single)
    molecule.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(molecule)
    return molecule


def _counted_hydrogens(
    atomic_numbers: np.ndarray, bonds: np.ndarray, connection_atoms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which atoms are hydrogens that become a count, and the count on every atom."""
    n = len(atomic_numbers)
    degree = np.bincount(bonds.ravel(), minlength=n)
    light = (atomic_numbers == 1) & (degree == 1)
    light[connection_atoms] = False
    heavy = (atomic_numbers != 1) & ~IS_METAL[atomic_numbers]
    i, j = bonds[:, 0], bonds[:, 1]
    counted = np.zeros(n, dtype=bool)
    counts = np.zeros(n, dtype=np.int64)
    for hydrogen, other in ((i, j), (j, i)):
        ends = light[hydrogen] & heavy[other]
        counted[hydrogen[ends]] = True
        np.add.at(counts, other[ends], 1)
    return counted, counts
