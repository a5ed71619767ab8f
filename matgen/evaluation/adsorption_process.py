"""The child process of `adsorption`: one request on standard input, one answer on standard output."""

import json
import math
import os
import resource
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["main"]

_KELVIN_PER_KCAL = 503.2195
_TABLE = Path(__file__).parent / "data" / "uff_lennard_jones.json"

_SITES = {
    "C_co2": (12.011, 0.70, 27.0, 2.80, 6),
    "O_co2": (15.9994, -0.35, 79.0, 3.05, 8),
    "N_n2": (14.0067, -0.482, 36.0, 3.31, 7),
    "M_n2": (0.0, 0.964, 0.0, 1.0, 0),
}
"""Mass (u), charge (e), depth (K) and size (Å) of the gases' sites, and the element. Source: Potoff, Siepmann 2001."""

_GASES = {
    "CO2": ((304.1282, 7377300.0, 0.22394), (("O_co2", 1.16), ("C_co2", 0.0), ("O_co2", -1.16))),
    "N2": ((126.192, 3395800.0, 0.0372), (("N_n2", 0.55), ("M_n2", 0.0), ("N_n2", -0.55))),
}
"""Critical temperature (K) and pressure (Pa), acentric factor; sites and their places on the axis (Å)."""


def main() -> None:
    """Answer the request on standard input."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # RASPA may talk
    request = json.loads(sys.stdin.read())
    seconds = math.ceil(request["config"]["deadline_s"])  # nothing outlives a parent that was killed
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    warnings.simplefilter("ignore")
    try:
        answer: dict[str, Any] = {"uptakes": [_uptake(request, condition) for condition in request["conditions"]]}
    except (ValueError, RuntimeError, IndexError) as error:
        answer = {"error": f"{type(error).__name__}: {error}"[:300]}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


@cache
def _lennard_jones() -> dict[str, list[float]]:
    """Distance of the minimum (Å) and depth (kcal/mol) of each element."""
    table: dict[str, list[float]] = json.loads(_TABLE.read_text())["elements"]
    return table


def _force_field(raspalib: Any, elements: list[str], cutoff: float) -> Any:
    """Types of the framework's elements, then of the gases' sites."""
    atoms, shapes = [], []
    for symbol in elements:
        distance, depth = _lennard_jones()[symbol]
        atoms.append(raspalib.PseudoAtom(f"{symbol}_framework", True, _mass(symbol), 0.0, 0.0, _number(symbol)))
        shapes.append(raspalib.VDWParameters(depth * _KELVIN_PER_KCAL, distance / 2.0 ** (1.0 / 6.0)))
    for name, (mass, charge, depth, size, number) in _SITES.items():
        atoms.append(raspalib.PseudoAtom(name, False, mass, charge, 0.0, number))
        shapes.append(raspalib.VDWParameters(depth, size))
    return raspalib.ForceField(
        pseudo_atoms=atoms,
        parameters=shapes,
        mixing_rule=raspalib.ForceField.MixingRule.LORENTZ_BERTHELOT,
        cutoff_framework_vdw=cutoff,
        cutoff_molecule_vdw=cutoff,
        cutoff_coulomb=cutoff,
        shifted=False,
        tail_corrections=False,
        use_charge=True,
    )


def _mass(symbol: str) -> float:
    from ase.data import atomic_masses

    return float(atomic_masses[_number(symbol)])


def _number(symbol: str) -> int:
    from matgen.crystal.elements import SYMBOLS

    return SYMBOLS.index(symbol)


def _gas(raspalib: Any, force_field: Any, name: str, num_elements: int, fugacity: float, mixed: bool) -> Any:
    critical, sites = _GASES[name]
    types = {site: num_elements + index for index, site in enumerate(_SITES)}
    atoms = [raspalib.Atom((0.0, 0.0, place), _SITES[site][1], type=types[site]) for site, place in sites]
    moves = raspalib.MCMoveProbabilities(
        translation_probability=0.5,
        rotation_probability=0.5,
        reinsertion_cbmc_probability=0.5,
        identity_change_probability=1.0 if mixed else 0.0,
        swap_probability=1.0,
    )
    return raspalib.Component(
        force_field, name, *critical, defined_atoms=atoms, particle_probabilities=moves, fugacity_coefficient=fugacity
    )


def _uptake(request: dict[str, Any], condition: dict[str, Any]) -> dict[str, list[float]]:
    """Mean and error of each gas, mol/kg."""
    import raspalib

    config, fractions = request["config"], condition["fractions"]
    elements = sorted(set(request["elements"]))
    force_field = _force_field(raspalib, elements, config["cutoff"])
    sites = zip(request["frac_coords"], request["charges"], request["elements"], strict=True)
    atoms = [raspalib.Atom(tuple(x), q, type=elements.index(symbol)) for x, q, symbol in sites]
    box = raspalib.SimulationBox(*request["lengths"], *request["angles"])
    framework = raspalib.Framework(force_field, "framework", box, 1, atoms, request["repeats"])
    # Its Python interface has no mole fractions: all gases are equal parts, and the coefficients set that right.
    gases = [
        _gas(raspalib, force_field, name, len(elements), fraction * len(fractions), len(fractions) > 1)
        for name, fraction in fractions.items()
    ]
    system = raspalib.System(
        force_field,
        external_temperature=condition["temperature"],
        external_pressure=condition["pressure"],
        framework_components=framework,
        components=gases,
        initial_number_of_molecules=[0] * len(gases),
    )
    cycles = (config["production_cycles"], config["initialization_cycles"])
    simulation = raspalib.MonteCarlo(*cycles, systems=[system], random_seed=config["seed"])
    simulation.run()
    system = simulation.systems[0]
    loadings = [system.average_loadings.average_loading_number_of_molecules(index) for index in range(len(gases))]
    scale = 1000.0 / system.framework_mass()
    return {name: [mean * scale, error * scale] for name, (mean, error) in zip(fractions, loadings, strict=True)}


if __name__ == "__main__":
    main()
