"""Run pyeqeq on random frameworks of QMOF and CoRE MOF and freeze its charges, for tests/reference.

In the environment of make_mofchecker_reference.py, which chooses the frameworks:

    python scripts/make_eqeq_reference.py DATA/qmof.parquet DATA/core_mof_2019_asr.parquet \\
        --out tests/reference/pyeqeq.json

Structures are not frozen, only their names, a hash of the CIF, and the charges of each element, sorted.
"""

import argparse
import hashlib
import json
import tempfile
import warnings
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from make_mofchecker_reference import choose

if TYPE_CHECKING:
    from pymatgen.core import Structure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parquet", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=30, help="frameworks of each file")
    parser.add_argument("--max-atoms", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [row for path in args.parquet for row in choose(path, args)]
    record = {
        "source": "pyeqeq (Apache-2.0), defaults, on the cell as it is in the file",
        "versions": {package: version(package) for package in ("pyeqeq", "pymatgen")},
        "charges": {name: charges(cif) for name, cif in sorted(rows)},
        "sha1_of_cif": {name: hashlib.sha1(cif.encode()).hexdigest()[:12] for name, cif in sorted(rows)},
    }
    args.out.write_text(json.dumps(record, separators=(",", ":")).replace("},", "},\n") + "\n")


def charges(cif: str) -> dict[str, list[float]]:
    """The charges of each element, e, sorted; every atom of the cell counts."""
    from pyeqeq import run_on_cif
    from pymatgen.core import Structure

    structure = Structure.from_str(cif, fmt="cif")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "framework.cif"
        path.write_text(plain_cif(structure))
        values = run_on_cif(str(path), charge_precision=6)
    found = defaultdict(list)
    for site, value in zip(structure, values, strict=True):
        found[site.specie.symbol].append(round(float(value), 5))
    return {symbol: sorted(found[symbol]) for symbol in sorted(found)}


def plain_cif(structure: "Structure") -> str:
    """The columns that pyeqeq expects.

    It reads them by place, not by name: of the files that pymatgen writes (and mofchecker hands to it) it takes the
    multiplicity for x, x for y and y for z.
    """
    cell = structure.lattice
    lines = ["data_framework"]
    lines += [f"_cell_length_{name} {value:.8f}" for name, value in zip("abc", cell.abc, strict=True)]
    lines += [f"_cell_angle_{n} {v:.8f}" for n, v in zip(("alpha", "beta", "gamma"), cell.angles, strict=True)]
    lines += ["_symmetry_space_group_name_H-M 'P 1'", "_symmetry_Int_Tables_number 1", "loop_"]
    lines += ["_symmetry_equiv_pos_as_xyz", "'x, y, z'", "loop_", "_atom_site_label", "_atom_site_type_symbol"]
    lines += [f"_atom_site_fract_{axis}" for axis in "xyz"] + ["_atom_site_occupancy"]
    for index, site in enumerate(structure):
        place = " ".join(f"{x:.8f}" for x in site.frac_coords)
        lines.append(f"{site.specie.symbol}{index} {site.specie.symbol} {place} 1")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
