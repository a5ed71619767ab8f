"""Relaxation of many crystals at once, each within its space group.

Each crystal is reduced to its primitive cell, moves only along the directions its group leaves free, and is put back
into the cell it came in. Crystals share batches of the potential; a finished one leaves its place to the next.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from matgen.crystal.structure import Structure, min_distance
from matgen.crystal.tables import symmetry_tables
from matgen.errors import StructureError, SymmetryError
from matgen.geometry.coordinates import wrap
from matgen.relaxation.potential import EV_PER_CUBIC_ANGSTROM_IN_GPA, OK, EnergyForcesStress, Potential
from matgen.relaxation.primitive import PrimitiveCell, primitive_cell
from matgen.relaxation.quasi_newton import Search, StepConfig
from matgen.relaxation.symmetric import SiteSymmetryMap, detect_operations, symmetrize

_log = logging.getLogger(__name__)

CONVERGED = "converged"


@dataclass(frozen=True, kw_only=True)
class RelaxConfig:
    """How far and how long to relax.

    force_tolerance eV/Å and stress_tolerance GPa: both must be met. symprec Å: tolerance of the group that is kept.
    max_volume_change: a cell that grows or shrinks by more than this factor has exploded. min_distance Å: atoms that
    end closer have clashed.
    min_energy_per_atom eV: below every element's and compound's energy (tungsten: -13, osmium nitrides: -15); a lower
    one is a hole in the potential. batch_size: crystals relaxed side by side.
    """

    max_steps: int = 200
    force_tolerance: float = 0.05
    stress_tolerance: float = 0.5
    symprec: float = 0.01
    step: StepConfig = field(default_factory=StepConfig)
    max_volume_change: float = 4.0
    min_distance: float = 0.5
    min_energy_per_atom: float = -20.0
    batch_size: int = 64


@dataclass(frozen=True)
class Relaxed:
    """What became of one crystal.

    status: "converged"; "max_steps" and "stalled" (usable, not at the minimum); or a failure: "exploded", "clash",
    "unphysical_energy", or the potential's own word ("non_finite", "isolated_atom", "unsupported_element", ...).
    structure: in the cell and the atom order of the input; the input itself where nothing could be computed.
    energies: eV/atom, NaN where unknown; the initial one is of the input made exactly symmetric. max_force eV/Å,
    max_stress GPa. rmsd: root mean square displacement of the atoms, their mean removed, fractional shifts measured in
    the relaxed lattice, Å. volume_ratio: relaxed over input. space_group_number: the group that was kept.
    """

    status: str
    reason: str
    structure: Structure
    energy_per_atom: float
    initial_energy_per_atom: float
    num_steps: int
    max_force: float
    max_stress: float
    rmsd: float
    volume_ratio: float
    space_group_number: int

    @property
    def usable(self) -> bool:
        """Whether the structure and the energy can be used."""
        return self.status in (CONVERGED, "max_steps", "stalled")


@dataclass
class _Task:
    """One crystal on its way: index in the request, the way back to its own cell, its search."""

    index: int
    start: Structure
    space_group_number: int
    cell: PrimitiveCell
    search: Search
    initial_energy_per_atom: float = float("nan")


def relax(
    structures: Sequence[Structure],
    potential: Potential,
    config: RelaxConfig | None = None,
    space_group_numbers: Sequence[int | None] | None = None,
) -> list[Relaxed]:
    """Relax positions and cells within their space groups.

    Args:
        structures: any cells; their order and their atoms' order are kept.
        potential: what gives the energies.
        config: tolerances and limits.
        space_group_numbers: groups to keep, for structures in the standard setting of International Tables; where None,
            or where the structure does not obey it, the group found at config.symprec is kept.

    Returns:
        One result per structure. Nothing is raised for a structure that fails: its status says why.
    """
    config = config or RelaxConfig()
    numbers = space_group_numbers if space_group_numbers is not None else [None] * len(structures)
    results: list[Relaxed | None] = [None] * len(structures)
    queue = iter(enumerate(zip(structures, numbers, strict=True)))
    active: list[_Task] = []
    while True:
        while len(active) < config.batch_size and (item := next(queue, None)) is not None:
            index, (structure, number) = item
            task = _begin(index, structure, number, config)
            if isinstance(task, Relaxed):
                results[index] = task
            else:
                active.append(task)
        if not active:
            break
        proposals = [task.search.proposal for task in active]
        answers = potential.energy_forces_stress(proposals, [task.search.symmetry for task in active])
        for task, answer in zip(active, answers, strict=True):
            results[task.index] = _advance(task, answer, config)
        active = [task for task in active if results[task.index] is None]
    return [result for result in results if result is not None]


def energies(structures: Sequence[Structure], potential: Potential, batch_size: int = 256) -> list[EnergyForcesStress]:
    """Energies of structures as they are, one answer each.

    Args:
        structures: any cells.
        potential: what gives the energies.
        batch_size: structures handed to the potential at once.
    """
    answers: list[EnergyForcesStress] = []
    for start in range(0, len(structures), batch_size):
        answers += potential.energy_forces_stress(structures[start : start + batch_size], forces=False)
    return answers


def _begin(index: int, structure: Structure, number: int | None, config: RelaxConfig) -> _Task | Relaxed:
    if not (structure.num_atoms and np.isfinite(structure.lattice).all() and np.isfinite(structure.frac_coords).all()):
        return _failed(structure, "non_finite", "no atoms, or a coordinate or a lattice entry is not finite")
    if not structure.volume > 0:
        return _failed(structure, "non_finite", "the cell has no volume")
    kept, cell = _kept_group(structure, number, config)
    exact = symmetrize(cell.structure, cell.symmetry)
    return _Task(index, structure, kept, cell, Search.start(exact, cell.symmetry, config.step))


def _kept_group(structure: Structure, number: int | None, config: RelaxConfig) -> tuple[int, PrimitiveCell]:
    """The requested group if the structure obeys it, else the one it has, else none."""
    tolerance = max(0.05, 5 * config.symprec)
    if number is not None:
        try:
            return number, primitive_cell(structure, *_standard_operations(number), tolerance=config.symprec)
        except SymmetryError as error:
            _log.debug("group %d is not obeyed: %s", number, error)
    try:
        found, rotations, translations = detect_operations(structure, config.symprec)
        return found, primitive_cell(structure, rotations, translations, tolerance)
    except StructureError as error:
        _log.debug("no group is kept: %s", error)
    trivial = SiteSymmetryMap.trivial(structure.num_atoms)
    same = np.arange(structure.num_atoms)
    return 1, PrimitiveCell(structure, trivial, np.eye(3), same, np.zeros((structure.num_atoms, 3)))


def _standard_operations(number: int) -> tuple[np.ndarray, np.ndarray]:
    tables = symmetry_tables()
    count = int(tables["num_operations"][number])
    rotations = np.asarray(tables["operations_rotation"][number, :count], dtype=np.int64)
    return rotations, np.asarray(tables["operations_translation"][number, :count], dtype=np.float64)


def _advance(task: _Task, answer: EnergyForcesStress, config: RelaxConfig) -> Relaxed | None:
    """Give a task its answer; the result if it is over."""
    search = task.search
    search.update(answer)
    best = search.best
    assert best is not None
    if search.num_updates == 1:
        if best.answer.status != OK:
            return _failed(task.start, best.answer.status, best.answer.reason, task.space_group_number)
        task.initial_energy_per_atom = best.answer.energy_per_atom
    problem = _unphysical(task, config)
    if problem is not None:
        return _finished(task, *problem, config.min_distance)
    max_stress = best.max_stress * EV_PER_CUBIC_ANGSTROM_IN_GPA
    if best.max_force <= config.force_tolerance and max_stress <= config.stress_tolerance:
        return _finished(task, CONVERGED, "", config.min_distance)
    detail = f"largest force {best.max_force:.3g} eV/Å, largest stress {max_stress:.3g} GPa"
    if search.num_updates > config.max_steps:
        reason = f"not converged in {config.max_steps} steps: {detail}"
        return _finished(task, "max_steps", reason, config.min_distance)
    if search.stalled or not search.directions.num_free:
        return _finished(task, "stalled", f"no step lowers the energy: {detail}", config.min_distance)
    return None


def _unphysical(task: _Task, config: RelaxConfig) -> tuple[str, str] | None:
    best = task.search.best
    assert best is not None
    if best.answer.energy_per_atom < config.min_energy_per_atom:
        reason = f"{best.answer.energy_per_atom:.3g} eV/atom is below any real crystal's energy"
        return "unphysical_energy", reason
    ratio = best.structure.volume / task.cell.structure.volume
    if not 1 / config.max_volume_change <= ratio <= config.max_volume_change:
        return "exploded", f"the volume changed by a factor of {ratio:.3g}"
    return None


def _finished(task: _Task, status: str, reason: str, min_allowed: float) -> Relaxed:
    best = task.search.best
    assert best is not None
    final = task.cell.restore(best.structure)
    shortest = min_distance(best.structure)
    if shortest < min_allowed:
        status, reason = "clash", f"two atoms end {shortest:.3g} Å apart"
    return Relaxed(
        status=status,
        reason=reason,
        structure=Structure(final.lattice, wrap(final.frac_coords), final.atomic_numbers),
        energy_per_atom=best.answer.energy_per_atom,
        initial_energy_per_atom=task.initial_energy_per_atom,
        num_steps=task.search.num_updates - 1,
        max_force=best.max_force,
        max_stress=best.max_stress * EV_PER_CUBIC_ANGSTROM_IN_GPA,
        rmsd=displacement_rmsd(task.start, final),
        volume_ratio=final.volume / task.start.volume,
        space_group_number=task.space_group_number,
    )


def _failed(structure: Structure, status: str, reason: str, space_group_number: int = 1) -> Relaxed:
    nan = float("nan")
    return Relaxed(status, reason, structure, nan, nan, 0, nan, nan, nan, nan, space_group_number)


def displacement_rmsd(start: Structure, final: Structure) -> float:
    """Root mean square displacement of atoms in the same order, Å, without their mean, in the final lattice."""
    moved = final.frac_coords - start.frac_coords
    moved = moved - np.round(moved)
    shift = (moved - moved.mean(0)) @ final.lattice
    return float(np.sqrt((shift**2).sum(1).mean()))
