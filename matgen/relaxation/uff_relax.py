"""Relaxation of frameworks with UFF4MOF: positions and cell together, many at once, and what became of each."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from matgen.crystal.structure import Structure
from matgen.errors import StructureError
from matgen.mof.bonds import Bonds
from matgen.relaxation.lammps import Lammps, LammpsConfig, LammpsError
from matgen.relaxation.optimizer import displacement_rmsd
from matgen.relaxation.uff_checks import CheckConfig, verdict
from matgen.relaxation.uff_energy import UffAnswer, UffConfig, energy_forces_stress
from matgen.relaxation.uff_joint import KCAL_PER_CUBIC_ANGSTROM_IN_GPA, JointConfig, JointRelaxation
from matgen.relaxation.uff_search import SearchConfig
from matgen.relaxation.uff_terms import UffTerms, uff_terms

__all__ = ["UffRelaxConfig", "UffRelaxed", "relax_frameworks"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class UffRelaxConfig:
    """force_tolerance kcal/mol/Å (largest on an atom) and stress_tolerance GPa (largest entry): both must be met.

    engine: "torch" or "lammps". max_steps: evaluations of one framework (torch). batch_size: frameworks side by side.
    """

    engine: str = "torch"
    max_steps: int = 2000
    force_tolerance: float = 0.1
    stress_tolerance: float = 0.02
    batch_size: int = 32
    uff: UffConfig = field(default_factory=UffConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    checks: CheckConfig = field(default_factory=CheckConfig)
    lammps: LammpsConfig = field(default_factory=LammpsConfig)


@dataclass(frozen=True, eq=False)
class UffRelaxed:
    """What became of one framework.

    status: "ok", or "untyped_atom", "exploded", "collapsed", "bond_broken", "clash", "not_converged", "timeout",
    "killed", "failed" (LAMMPS's own error). structure: in the cell and atom order of the input; the input itself where
    nothing could be computed. energy kcal/mol per cell; max_force kcal/mol/Å; max_stress GPa; rmsd Å; volume_ratio
    relaxed over input; longest_bond: largest ratio of a bond to its natural length; shortest_contact: ratio of
    the non-bonded distance that is shortest for its limit to the sum of covalent radii. types_guessed: see UffTyping.
    """

    status: str
    reason: str
    structure: Structure
    energy: float = float("nan")
    initial_energy: float = float("nan")
    num_steps: int = 0
    max_force: float = float("nan")
    max_stress: float = float("nan")
    rmsd: float = float("nan")
    volume_ratio: float = float("nan")
    longest_bond: float = float("nan")
    shortest_contact: float = float("nan")
    types_guessed: tuple[str, ...] = ()


def relax_frameworks(
    structures: Sequence[Structure], bonds: Sequence[Bonds], config: UffRelaxConfig | None = None
) -> list[UffRelaxed]:
    """Relax positions and cells, connectivity given.

    Args:
        structures: any cells.
        bonds: of each, each periodic bond once.
        config: engine, tolerances, limits.

    Returns:
        one result per framework, in order. A framework that fails is a status; nothing is raised for it.

    Raises:
        MissingDependencyError: the engine is "lammps", and LAMMPS is not installed.
        ValueError: an unknown engine.
    """
    config = config or UffRelaxConfig()
    if config.engine not in ("torch", "lammps"):
        raise ValueError(f"unknown engine {config.engine!r} (there are: torch, lammps)")
    results: list[UffRelaxed | None] = [None] * len(structures)
    ready: list[tuple[int, UffTerms]] = []
    for index, (structure, bond) in enumerate(zip(structures, bonds, strict=True)):
        problem = _unfit(structure)
        try:
            terms = uff_terms(structure, bond) if problem is None else None
        except StructureError as error:
            problem, terms = (error.status, str(error)), None
        if terms is None:
            assert problem is not None
            results[index] = UffRelaxed(*problem, structure)
        else:
            ready.append((index, terms))
    done = _relax_lammps if config.engine == "lammps" else _relax_torch
    for (index, _), result in zip(ready, done(structures, ready, config), strict=True):
        results[index] = result
    return [result for result in results if result is not None]


def _unfit(structure: Structure) -> tuple[str, str] | None:
    if not structure.num_atoms:
        return "empty", "no atoms"
    finite = np.isfinite(structure.lattice).all() and np.isfinite(structure.frac_coords).all()
    if not finite or not structure.volume > 1.0:
        return "non_finite", "a coordinate or a lattice entry is not finite, or the cell has no volume"
    return None


def _relax_torch(
    structures: Sequence[Structure], ready: list[tuple[int, UffTerms]], config: UffRelaxConfig
) -> list[UffRelaxed]:
    order = sorted(range(len(ready)), key=lambda k: ready[k][1].num_atoms)  # neighbours in a batch are of one size
    results: list[UffRelaxed | None] = [None] * len(ready)
    joint = JointConfig(
        max_steps=config.max_steps,
        force_tolerance=config.force_tolerance,
        stress_tolerance=config.stress_tolerance,
        uff=config.uff,
        search=config.search,
    )
    for start in range(0, len(order), config.batch_size):
        chosen = order[start : start + config.batch_size]
        starts, terms = [structures[ready[k][0]] for k in chosen], [ready[k][1] for k in chosen]
        joined = JointRelaxation(starts, terms, joint).run()
        answers = energy_forces_stress([end.structure for end in joined], terms, config.uff)
        for place, (k, end) in enumerate(zip(chosen, joined, strict=True)):
            results[k] = _finished(
                starts[place], end.structure, terms[place], answers[place], end.initial_energy, end.num_steps, config
            )
    return [result for result in results if result is not None]


def _relax_lammps(
    structures: Sequence[Structure], ready: list[tuple[int, UffTerms]], config: UffRelaxConfig
) -> list[UffRelaxed]:
    results = []
    with Lammps(config.lammps) as engine:
        for index, terms in ready:
            start = structures[index]
            try:
                final, answer, num_steps = engine.relax(start, terms)
            except LammpsError as error:
                guessed = terms.typing.guessed
                results.append(UffRelaxed(error.status, str(error), start, types_guessed=guessed))
                continue
            before = energy_forces_stress([start], [terms], config.uff)[0].energy
            results.append(_finished(start, final, terms, answer, before, num_steps, config))
    return results


def _finished(
    start: Structure,
    final: Structure,
    terms: UffTerms,
    answer: UffAnswer,
    initial_energy: float,
    num_steps: int,
    config: UffRelaxConfig,
) -> UffRelaxed:
    max_force = float(np.linalg.norm(answer.forces, axis=1).max())
    max_stress = float(np.abs(answer.stress).max()) * KCAL_PER_CUBIC_ANGSTROM_IN_GPA
    checks = verdict(start, final, terms, config.checks)
    status, reason = checks.status, checks.reason
    if status == "ok" and not (max_force <= config.force_tolerance and max_stress <= config.stress_tolerance):
        status = "not_converged"
        reason = f"after {num_steps} steps: largest force {max_force:.3g} kcal/mol/Å, stress {max_stress:.3g} GPa"
    return UffRelaxed(
        status=status,
        reason=reason,
        structure=final,
        energy=answer.energy,
        initial_energy=initial_energy,
        num_steps=num_steps,
        max_force=max_force,
        max_stress=max_stress,
        rmsd=displacement_rmsd(start, final),
        volume_ratio=final.volume / start.volume,
        longest_bond=checks.longest_bond,
        shortest_contact=checks.shortest_contact,
        types_guessed=terms.typing.guessed,
    )
