"""Our terms against RDKit's UFF, an independent implementation of Rappe et al. 1992, on organic molecules."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem, rdForceFieldHelpers

from matgen.crystal.structure import Structure
from matgen.mof.bonds import Bonds
from matgen.relaxation.uff_terms import UffTerms, uff_terms

MOLECULES = {
    "benzene": "c1ccccc1",
    "ethane": "CC",
    "propene": "CC=C",
    "methanol": "CO",
    "hydrogen peroxide": "OO",
    "acetonitrile": "CC#N",
    "pyridine": "c1ccncc1",
    "acetaldehyde": "CC=O",
    "biphenyl": "c1ccccc1-c1ccccc1",
    "toluene": "Cc1ccccc1",
    "phosphine": "CP",
    "trimethylamine": "CN(C)C",
}


def made(smiles: str) -> tuple[Chem.Mol, UffTerms]:
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    positions = molecule.GetConformer().GetPositions()
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    ends = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()])
    bonds = Bonds(ends[:, 0], ends[:, 1], np.zeros((len(ends), 3), dtype=np.int64))
    return molecule, uff_terms(Structure(np.eye(3) * 30, positions / 30, numbers), bonds)


@pytest.mark.parametrize("name", MOLECULES)
def test_bonds_angles_and_inversions(name: str) -> None:
    molecule, terms = made(MOLECULES[name])
    halves = (
        np.concatenate([terms.bonds.first, terms.bonds.second]),
        np.concatenate([terms.bonds.second, terms.bonds.first]),
    )
    for k, (i, j) in enumerate(zip(terms.bonds.first.tolist(), terms.bonds.second.tolist(), strict=True)):
        stiffness, length = rdForceFieldHelpers.GetUFFBondStretchParams(molecule, i, j)
        assert terms.bond_length[k] == pytest.approx(length, abs=2e-4)
        assert terms.bond_stiffness[k] == pytest.approx(stiffness, rel=1e-3)
    for (left, right), stiffness in zip(terms.angle_halves.tolist(), terms.angle_stiffness.tolist(), strict=True):
        ends = int(halves[1][left]), int(halves[0][left]), int(halves[1][right])
        theirs, _ = rdForceFieldHelpers.GetUFFAngleBendParams(molecule, *ends)
        assert stiffness == pytest.approx(theirs, rel=2e-3)
    for spokes, constants in zip(terms.improper_halves, terms.improper_constants, strict=True):
        ends = halves[1][spokes].tolist()
        center = int(halves[0][spokes[0]])
        theirs = rdForceFieldHelpers.GetUFFInversionParams(molecule, ends[0], center, ends[1], ends[2])
        if theirs is not None:  # RDKit divides by the three axes
            assert constants[0] / 3 == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize("name", MOLECULES)
def test_torsion_barriers_add_up(name: str) -> None:
    """RDKit gives the barrier of a bond, not yet divided by the number of its torsions."""
    molecule, terms = made(MOLECULES[name])
    num = terms.bonds.num_bonds
    halves = (
        np.concatenate([terms.bonds.first, terms.bonds.second]),
        np.concatenate([terms.bonds.second, terms.bonds.first]),
    )
    middle = terms.torsion_halves[:, 1] % num
    for bond in np.unique(middle).tolist():
        i, j, k = terms.torsion_halves[middle == bond][0].tolist()
        ends = (int(halves[0][i]), int(halves[0][j]), int(halves[1][j]), int(halves[1][k]))
        barrier = terms.torsion_barrier[middle == bond].sum()
        assert barrier == pytest.approx(rdForceFieldHelpers.GetUFFTorsionParams(molecule, *ends), rel=2e-3)


@pytest.mark.parametrize("name", MOLECULES)
def test_van_der_waals(name: str) -> None:
    molecule, terms = made(MOLECULES[name])
    for j in range(1, terms.num_atoms):
        distance, depth = rdForceFieldHelpers.GetUFFVdWParams(molecule, 0, j)
        assert np.sqrt(terms.vdw_distance[0] * terms.vdw_distance[j]) == pytest.approx(distance, rel=1e-6)
        assert np.sqrt(terms.vdw_depth[0] * terms.vdw_depth[j]) == pytest.approx(depth, rel=1e-6)
