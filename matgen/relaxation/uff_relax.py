"""Relaxation of frameworks with UFF4MOF: positions and cell together, many at once, and what became of each."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from matgen.crystal.structure import Structure
from matgen.errors import StructureError
from matgen.mof.bonds import Bonds
from matgen.relaxation.lammps import Lammps, LammpsConfig, LammpsError
from matgen.relaxation.optimizer import displacement_rmsd
from matgen.relaxation.uff_checks import CheckConfig, has_clash, verdict
from matgen.relaxation.uff_energy import UffAnswer, UffConfig, energy_forces_stress
from matgen.relaxation.uff_joint import KCAL_PER_CUBIC_ANGSTROM_IN_GPA, Joined, JointConfig, JointRelaxation
from matgen.relaxation.uff_search import SearchConfig
from matgen.relaxation.uff_terms import UffTerms, uff_terms

__all__ = ["SoftStartConfig", "UffRelaxConfig", "UffRelaxed", "relax_frameworks"]

_log = logging.getLogger(__name__)

_BUMP_REACH = 5.0  # Å; a bump ends at x, and the largest of UFF4MOF is 4.9 Å (Fr)


@dataclass(frozen=True, kw_only=True)
class SoftStartConfig:
    """How a start with clashes is made fit to be relaxed: in torch, with a van der Waals energy that stays finite.

    Full repulsion throws overlapping blocks apart, or holds a bond that runs through a ring where it is. bump: as in
    UffConfig; 0: no soft start. max_steps: evaluations at most. force_tolerance kcal/mol/Å, stress_tolerance GPa:
    where it ends before.
    """

    bump: float = 20.0
    max_steps: int = 400
    force_tolerance: float = 1.0
    stress_tolerance: float = 0.2


@dataclass(frozen=True, kw_only=True)
class UffRelaxConfig:
    """force_tolerance kcal/mol/Å (largest on an atom) and stress_tolerance GPa (largest entry): both must be met.

    engine: "torch" or "lammps". max_steps: evaluations of one framework (torch), a soft start has its own.
    batch_size: frameworks side by side.
    """

    engine: str = "torch"
    max_steps: int = 2000
    force_tolerance: float = 0.1
    stress_tolerance: float = 0.02
    batch_size: int = 32
    uff: UffConfig = field(default_factory=UffConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    soft_start: SoftStartConfig = field(default_factory=SoftStartConfig)
    checks: CheckConfig = field(default_factory=CheckConfig)
    lammps: LammpsConfig = field(default_factory=LammpsConfig)

    def __post_init__(self) -> None:
        if self.uff.bump:
            raise ValueError("uff.bump is for a soft start alone (soft_start.bump): with it energies are not UFF's")


@dataclass(frozen=True, eq=False)
class UffRelaxed:
    """What became of one framework.

    status: "ok", or "untyped_atom", "exploded", "collapsed", "bond_broken", "clash", "not_converged", "timeout",
    "killed", "failed" (LAMMPS's own error). structure: in the cell and atom order of the input; the input itself where
    nothing could be computed. energy kcal/mol per cell; max_force kcal/mol/Å; max_stress GPa; rmsd Å; volume_ratio
    relaxed over input; longest_bond: largest ratio of a bond to its natural length; shortest_contact: ratio of
    the non-bonded distance that is shortest for its limit to the sum of covalent radii. types_guessed: see UffTyping.
    num_soft_steps: evaluations of the soft start; 0 where there was no clash.
    """

    status: str
    reason: str
    structure: Structure
    energy: float = float("nan")
    initial_energy: float = float("nan")
    num_steps: int = 0
    num_soft_steps: int = 0
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


def _pushed_apart(
    structures: Sequence[Structure], ready: list[tuple[int, UffTerms]], config: UffRelaxConfig
) -> dict[int, Joined]:
    """Where each relaxation begins: the structure itself, or one whose clashes a soft energy has resolved."""
    begun = {index: Joined(structures[index], 0) for index, _ in ready}
    soft = config.soft_start
    if soft.bump <= 0:
        return begun
    clashing = [(index, terms) for index, terms in ready if has_clash(structures[index], terms, config.checks)]
    joint = JointConfig(
        max_steps=soft.max_steps,
        force_tolerance=soft.force_tolerance,
        stress_tolerance=soft.stress_tolerance,
        uff=replace(config.uff, bump=soft.bump, cutoff=min(config.uff.cutoff, _BUMP_REACH)),
        search=config.search,
    )
    for chosen in _side_by_side(clashing, config.batch_size):
        joined = JointRelaxation(
            [structures[index] for index, _ in chosen], [terms for _, terms in chosen], joint
        ).run()
        begun |= dict(zip((index for index, _ in chosen), joined, strict=True))
    return begun


def _side_by_side(ready: list[tuple[int, UffTerms]], size: int) -> list[list[tuple[int, UffTerms]]]:
    """Batches whose frameworks are of about one size."""
    order = sorted(ready, key=lambda item: item[1].num_atoms)
    return [order[start : start + size] for start in range(0, len(order), size)]


def _relax_torch(
    structures: Sequence[Structure], ready: list[tuple[int, UffTerms]], config: UffRelaxConfig
) -> list[UffRelaxed]:
    begun = _pushed_apart(structures, ready, config)
    results: dict[int, UffRelaxed] = {}
    joint = JointConfig(
        max_steps=config.max_steps,
        force_tolerance=config.force_tolerance,
        stress_tolerance=config.stress_tolerance,
        uff=config.uff,
        search=config.search,
    )
    for chosen in _side_by_side(ready, config.batch_size):
        terms = [own for _, own in chosen]
        joined = JointRelaxation([begun[index].structure for index, _ in chosen], terms, joint).run()
        before = energy_forces_stress([structures[index] for index, _ in chosen], terms, config.uff)
        answers = energy_forces_stress([end.structure for end in joined], terms, config.uff)
        for (index, own), end, first, last in zip(chosen, joined, before, answers, strict=True):
            start = structures[index]
            steps = (begun[index].num_steps, end.num_steps)
            results[index] = _finished(start, end.structure, own, last, first.energy, steps, config)
    return [results[index] for index, _ in ready]


def _relax_lammps(
    structures: Sequence[Structure], ready: list[tuple[int, UffTerms]], config: UffRelaxConfig
) -> list[UffRelaxed]:
    results = []
    with Lammps(config.lammps) as engine:
        begun = _pushed_apart(structures, ready, config)
        for index, terms in ready:
            start, soft_steps = structures[index], begun[index].num_steps
            try:
                final, answer, num_steps = engine.relax(begun[index].structure, terms)
            except LammpsError as error:
                guessed = terms.typing.guessed
                results.append(
                    UffRelaxed(error.status, str(error), start, num_soft_steps=soft_steps, types_guessed=guessed)
                )
                continue
            before = energy_forces_stress([start], [terms], config.uff)[0].energy
            results.append(_finished(start, final, terms, answer, before, (soft_steps, num_steps), config))
    return results


def _finished(
    start: Structure,
    final: Structure,
    terms: UffTerms,
    answer: UffAnswer,
    initial_energy: float,
    steps: tuple[int, int],
    config: UffRelaxConfig,
) -> UffRelaxed:
    """Judge an end; steps: of the soft start, and of the relaxation."""
    num_soft_steps, num_steps = steps
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
        num_soft_steps=num_soft_steps,
        max_force=max_force,
        max_stress=max_stress,
        rmsd=displacement_rmsd(start, final),
        volume_ratio=final.volume / start.volume,
        longest_bond=checks.longest_bond,
        shortest_contact=checks.shortest_contact,
        types_guessed=terms.typing.guessed,
    )
