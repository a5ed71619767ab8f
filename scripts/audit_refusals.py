"""Structures that `matgen decompose` or `matgen reconstruct --kind mof` refused, judged by bonds that are not ours.

    python scripts/audit_refusals.py TABLE SOURCE [--count 50] [--seed 0]

TABLE has material_id and status, SOURCE name and cif. Bonds are pymatgen's JmolNN at a tight and a wide tolerance, the
dimension of the net Larsen's. A refusal is "confirmed" where both tolerances agree with its word: "isolated" where
nothing is endless, "no_linker" where what is endless stays so without carbon and hydrogen, or nothing is. Where the two
tolerances differ it is "unclear": it hangs on contacts between a bond and none. The others
are "doubtful": look at them.
"""

import argparse
import warnings
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pymatgen.core import Structure

TOLERANCES = (0.2, 0.45)  # Å beyond the sum of radii


def dimensions(structure: "Structure") -> list[int]:
    """Dimension of the largest net at each tolerance."""
    from pymatgen.analysis.dimensionality import get_dimensionality_larsen
    from pymatgen.analysis.graphs import StructureGraph
    from pymatgen.analysis.local_env import JmolNN

    graphs = (StructureGraph.from_local_env_strategy(structure, JmolNN(tol=tolerance)) for tolerance in TOLERANCES)
    return [int(get_dimensionality_larsen(graph)) for graph in graphs]


def verdict(status: str, whole: list[int], inorganic: list[int]) -> str:
    """What independent bonds say of a refusal."""
    if whole[0] != whole[1]:
        return "unclear"
    if status == "isolated":
        return "confirmed" if whole[0] == 0 else "doubtful"
    if status == "no_linker":
        return "confirmed" if whole[0] == 0 or inorganic[0] > 0 else "doubtful"
    return "doubtful"


def main() -> None:
    """Print one line a refusal, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("source")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from pymatgen.core import Structure

    warnings.filterwarnings("ignore", module="pymatgen")
    rows = pq.read_table(arguments.table, columns=["material_id", "status"]).to_pylist()
    refused = [row for row in rows if row["status"] in ("isolated", "no_linker", "no_metal", "polymer")]
    chosen = np.sort(np.random.default_rng(arguments.seed).permutation(len(refused))[: arguments.count])
    source = pq.read_table(arguments.source, columns=["name", "cif"])
    cifs = dict(zip(source["name"].to_pylist(), source["cif"].to_pylist(), strict=True))
    counts: Counter[tuple[str, str]] = Counter()
    for row in (refused[at] for at in chosen):
        structure = Structure.from_str(cifs[row["material_id"]], fmt="cif")
        rest = [site for site in structure if site.specie.symbol not in ("C", "H")]
        whole, inorganic = dimensions(structure), dimensions(Structure.from_sites(rest))
        said = verdict(row["status"], whole, inorganic)
        counts[row["status"], said] += 1
        print(f"{row['material_id']:16s} {structure.composition.reduced_formula:24s} {row['status']:10s} {said:10s}"
              f" net {whole}, without C and H {inorganic}")  # fmt: skip
    for (status, said), count in sorted(counts.items()):
        print(f"{status:10s} {said:10s} {count}")


if __name__ == "__main__":
    main()
