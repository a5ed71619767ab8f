"""Can these blocks, at these centres, be joined at all? Says why where they cannot."""

import numpy as np

from matgen.mof.assembly.pairs import PairTable, candidate_pairs, sides
from matgen.mof.assembly.problem import AssemblyInput

__all__ = ["balance", "feasibility"]

_INFEASIBLE = "infeasible"


def feasibility(given: AssemblyInput, reach: float = 2.5) -> tuple[str, str] | None:
    """Test what must hold before blocks can be joined.

    Args:
        given: blocks, cell and centres.
        reach: Å by which two connection points may miss each other along the line of their centres.

    Returns:
        None, or (status, reason): the cell or a centre is not finite; no blocks; a block without connections; metal and
        linker connections do not balance; a connection reaches no partner; no pairing can serve all connections at
        once.
    """
    reason = balance(given)
    if reason is None:
        reason = unreachable(given, candidate_pairs(given, reach))
    return None if reason is None else (_INFEASIBLE, reason)


def balance(given: AssemblyInput) -> str | None:
    """The part of the test that needs no geometry beyond a sound cell."""
    if not given.blocks:
        return "no blocks"
    if not (np.isfinite(given.lattice).all() and np.isfinite(given.frac_coords).all()):
        return "a lattice entry or a centre is not a finite number"
    lengths = np.linalg.norm(given.lattice, axis=1)
    volume = abs(np.linalg.det(given.lattice))
    if not volume > 1e-3 * float(np.prod(lengths)) or volume < 1.0:
        return f"the cell has no volume ({volume:.3g} Å^3; lengths {lengths.round(2).tolist()} Å)"
    for index, block in enumerate(given.blocks):
        if len(block.connection_points) == 0:
            return f"block {index} ({_name(given, index)}) has no connection point"
    is_metal = sides(given.blocks)
    metal, linker = int(is_metal.sum()), int((~is_metal).sum())
    if metal != linker:
        return f"{metal} metal-side and {linker} linker-side connection points do not balance"
    return None


def unreachable(given: AssemblyInput, table: PairTable) -> str | None:
    """Whether some connection, or some set of them, finds no partner among the candidate pairs."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    found = np.zeros(len(table.is_metal), dtype=bool)
    found[table.metal] = True
    found[table.linker] = True
    if not found.all():
        lonely = int(np.flatnonzero(~found)[0])
        block = int(table.block[lonely])
        return (
            f"{int((~found).sum())} connection points reach no partner, the first of block {block} "
            f"({_name(given, block)}, arm {np.linalg.norm(table.arm[lonely]):.1f} Å)"
        )
    metals, linkers = np.flatnonzero(table.is_metal), np.flatnonzero(~table.is_metal)
    rank = np.empty(len(found), dtype=np.int64)
    rank[metals], rank[linkers] = np.arange(len(metals)), np.arange(len(linkers))
    keys = np.unique(rank[table.metal] * len(linkers) + rank[table.linker])
    graph = csr_array((np.ones(len(keys)), divmod(keys, len(linkers))), shape=(len(metals), len(linkers)))
    matched = int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    if matched < len(metals):
        return f"at most {matched} of {len(metals)} pairs can be made at once: degrees cannot match"
    return None


def _name(given: AssemblyInput, index: int) -> str:
    block = given.blocks[index]
    return f"{block.role}, {len(block.connection_points)} connections"
