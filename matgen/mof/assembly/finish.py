"""From orientations to a framework: exact matching, the best of the free turns, least squares, a check of contacts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from matgen.mof.assembly.chains import straight_chains
from matgen.mof.assembly.contacts import Surroundings, moved_to, shortest_contact, surroundings, total_energy
from matgen.mof.assembly.matching import match
from matgen.mof.assembly.pairs import PairTable
from matgen.mof.assembly.polish import PolishConfig, exchanged, permutations_of
from matgen.mof.assembly.problem import CLOSED_AT, Assembly, AssemblyInput, placed_atoms
from matgen.mof.assembly.refine import RefineConfig, Refined, refine
from matgen.mof.assembly.search import Solution
from matgen.mof.assembly.settle import SettleConfig, settle, turns_of

__all__ = ["FinishConfig", "finish"]


@dataclass(frozen=True, kw_only=True)
class FinishConfig:
    """Settings of what follows the search.

    Args:
        refine: of rotations, centres and cell.
        polish: exchange of partners within blocks that close, but not exactly.
        settle: among the turns that closing leaves free.
        rematch: rounds of matching and refinement of what is open.
        open_solutions: open starts that are refined.
        max_strain: of the cell; what closes by more than this has not closed.
        same_energy: per block; closed solutions nearer in energy than this are taken for one.
        min_contact: Å; closed frameworks with atoms of different blocks nearer than this are a clash.
    """

    refine: RefineConfig = field(default_factory=RefineConfig)
    polish: PolishConfig = field(default_factory=PolishConfig)
    settle: SettleConfig = field(default_factory=SettleConfig)
    rematch: int = 3
    open_solutions: int = 4
    max_strain: float = 0.2
    same_energy: float = 0.05
    min_contact: float = 0.8


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A pairing of framework `at`, refined; energy: of its contacts."""

    at: int
    rows: np.ndarray
    fit: Refined
    energy: float = 0.0

    @property
    def num_open(self) -> int:
        return int((self.fit.distance > CLOSED_AT).sum())


def finish(
    inputs: Sequence[AssemblyInput],
    tables: Sequence[PairTable],
    found: Sequence[Sequence[Solution]],
    rngs: Sequence[np.random.Generator],
    config: FinishConfig,
) -> list[Assembly]:
    """Make one assembly of the solutions of each framework.

    Args:
        inputs: blocks, centres and cells.
        tables: candidate pairs of each.
        found: solutions of the search, best first.
        rngs: one for each framework.
        config: settings.
    """
    arounds = [surroundings(given.lattice, given.frac_coords @ given.lattice, given.blocks) for given in inputs]
    chosen = [
        start for at, given in enumerate(inputs) for start in _promising(at, given, arounds[at], found[at], config)
    ]
    fitted = _polished(inputs, tables, _fit(tables, chosen, config), config)
    settled: list[_Candidate] = []
    for at, given in enumerate(inputs):
        mine = sorted((c for c in fitted if c.at == at), key=lambda c: (c.num_open, c.fit.rms))
        closed = [c for c in mine if c.num_open == 0][: config.settle.solutions]
        if closed and config.settle.starts:
            settled += _settled(given, arounds[at], tables[at], closed, rngs[at], config.settle)
    again = _fit(tables, [(c.at, c.fit.rotations, c.fit) for c in settled], config)
    again = [replace(c, energy=_energy_of(inputs[c.at], arounds[c.at], c.fit)) for c in again]
    made = []
    for at, given in enumerate(inputs):
        turned = [c for c in again if c.at == at and c.num_open == 0]
        if turned:
            best = min(turned, key=lambda c: _score(c, config))
            made.append(_assembly(given, arounds[at], tables[at], best, config))
            continue
        rest = sorted((c for c in fitted if c.at == at), key=lambda c: (c.num_open, c.fit.rms))
        made.append(
            _assembly(given, arounds[at], tables[at], rest[0], config) if rest else _unmatched(given, found[at])
        )
    return made


def _score(candidate: _Candidate, config: FinishConfig) -> float:
    """Lower is better: contacts, and what closing has cost, by the measure that `refine` minimises."""
    fit, refined = candidate.fit, config.refine
    misfit = 2 * len(candidate.rows) * fit.rms**2
    moved = np.square((fit.shift - fit.shift.mean(0)) * 0.1 / refined.centre_scale).sum()
    strained = np.square(np.tril(fit.strain) * 0.1 / refined.strain_scale).sum()
    return candidate.energy + config.settle.strain_weight * float(misfit + moved + strained)


def _promising(
    at: int, given: AssemblyInput, around: Surroundings, solutions: Sequence[Solution], config: FinishConfig
) -> list[tuple[int, np.ndarray, Refined]]:
    """Closed solutions with the best contacts that differ in them, or the best open ones."""
    closed = [s for s in solutions if s.num_open == 0]
    if not closed:
        return [(at, s.rotations, _shifted(s)) for s in solutions[: config.open_solutions]]
    carts = [placed_atoms(given.blocks, around.centres + s.shifts, s.rotations) for s in closed]
    score = total_energy(around, np.stack(carts))
    score += config.settle.strain_weight * given.num_connections * np.array([s.rms for s in closed]) ** 2
    order = np.argsort(score, kind="stable")
    new = np.diff(score[order], prepend=-np.inf) > config.same_energy * given.num_blocks
    return [(at, closed[i].rotations, _shifted(closed[i])) for i in order[new][: config.settle.solutions]]


def _shifted(solution: Solution) -> Refined:
    return Refined(solution.rotations, solution.shifts, np.zeros((3, 3)), np.zeros(0), solution.rms)


def _fit(
    tables: Sequence[PairTable], starts: Sequence[tuple[int, np.ndarray, Refined]], config: FinishConfig
) -> list[_Candidate]:
    """Match and refine, and match what stays open again; starts without a full matching are left out."""
    results: dict[int, _Candidate] = {}
    todo = dict(enumerate(starts))
    for _ in range(config.rematch):
        rows = {}
        for i, (at, rotations, fit) in todo.items():
            new, _ = match(tables[at], rotations, config.refine.direction, fit.shift, fit.strain)
            if len(new) and not (i in results and np.array_equal(new, results[i].rows)):
                rows[i] = new
        order = list(rows)
        fits = refine(
            [tables[todo[i][0]] for i in order],
            [rows[i] for i in order],
            [todo[i][1] for i in order],
            [todo[i][2] for i in order],
            config.refine,
        )
        todo = {i: (todo[i][0], fit.rotations, fit) for i, fit in zip(order, fits, strict=True)}
        for i, fit in zip(order, fits, strict=True):
            candidate = _Candidate(todo[i][0], rows[i], fit)
            if np.abs(np.linalg.eigvalsh(fit.strain)).max() > config.max_strain:
                todo.pop(i)  # any pairs meet where the cell collapses
            elif i not in results or candidate.num_open <= results[i].num_open:
                results[i] = candidate
        todo = {i: start for i, start in todo.items() if results[i].num_open}
    return [results[i] for i in sorted(results)]


def _polished(
    inputs: Sequence[AssemblyInput], tables: Sequence[PairTable], fitted: list[_Candidate], config: FinishConfig
) -> list[_Candidate]:
    """Candidates with partners exchanged where that fits better."""
    permutations: dict[int, list[np.ndarray]] = {}
    changed: dict[int, _Candidate] = {}
    for i, c in enumerate(fitted):
        if c.num_open == 0 and c.fit.distance.max() > config.polish.above:
            if c.at not in permutations:
                permutations[c.at] = permutations_of(inputs[c.at].blocks, config.polish)
            turned = exchanged(tables[c.at], c.rows, c.fit, permutations[c.at], config.polish)
            if turned is not None:
                changed[i] = replace(c, fit=replace(c.fit, rotations=turned))
    for i, start in changed.items():
        better = _fit(tables, [(start.at, start.fit.rotations, start.fit)], config)
        if better and better[0].num_open == 0 and better[0].fit.rms < fitted[i].fit.rms:
            fitted[i] = better[0]
    return fitted


def _energy_of(given: AssemblyInput, around: Surroundings, fit: Refined) -> float:
    now = moved_to(around, *_moved(given, fit))
    return float(total_energy(now, placed_atoms(given.blocks, now.centres, fit.rotations)[None])[0])


def _settled(
    given: AssemblyInput,
    around: Surroundings,
    table: PairTable,
    closed: Sequence[_Candidate],
    rng: np.random.Generator,
    config: SettleConfig,
) -> list[_Candidate]:
    turns = turns_of(given.blocks, config)
    settled = []
    for candidate in closed:
        now = moved_to(around, *_moved(given, candidate.fit))
        chains = straight_chains(table, candidate.rows, given.num_blocks)
        rotations, energy = settle(now, given.blocks, candidate.fit.rotations, turns, chains, rng, config)
        settled.append(replace(candidate, fit=replace(candidate.fit, rotations=rotations), energy=energy))
    return settled


def _moved(given: AssemblyInput, fit: Refined) -> tuple[np.ndarray, np.ndarray]:
    """Lattice and centres (Å) after refinement."""
    lattice = given.lattice @ (np.eye(3) + fit.strain)
    return lattice, given.frac_coords @ lattice + fit.shift


def _assembly(
    given: AssemblyInput, around: Surroundings, table: PairTable, best: _Candidate, config: FinishConfig
) -> Assembly:
    lattice, centres = _moved(given, best.fit)
    frac = centres @ np.linalg.inv(lattice)
    cell = np.floor(frac).astype(np.int64)
    pairs = np.stack([table.metal[best.rows], table.linker[best.rows]], axis=1)
    image = table.image[best.rows] + cell[table.block[pairs[:, 1]]] - cell[table.block[pairs[:, 0]]]
    shortest = shortest_contact(
        moved_to(around, lattice, centres), placed_atoms(given.blocks, centres, best.fit.rotations)
    )
    status, reason = "ok", ""
    if best.num_open:
        worst = float(best.fit.distance.max())
        status, reason = "open", f"{best.num_open} of {len(pairs)} pairs are open, the worst by {worst:.2f} Å"
    elif shortest < config.min_contact:
        status, reason = "clash", f"atoms of different blocks are {shortest:.2f} Å apart"
    made = Assembly(
        status,
        reason,
        lattice,
        frac - cell,
        given.blocks,
        best.fit.rotations,
        pairs,
        image,
        best.fit.distance,
        shortest,
        _score(best, config),
    )
    if status == "ok" and made.num_doubled:
        return replace(
            made, status="clash", reason=f"{made.num_doubled} connections join atoms that are joined already"
        )
    return made


def _unmatched(given: AssemblyInput, solutions: Sequence[Solution]) -> Assembly:
    rotations = solutions[0].rotations
    reason = f"no pairing serves all connections in a cell near the given one; {solutions[0].num_open} are open"
    return Assembly("open", reason, given.lattice, given.frac_coords, given.blocks, rotations)
