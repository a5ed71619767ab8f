"""Make experiments/data/mof_demo.parquet, the frameworks that demonstrations run on, from what build-mofs made.

    matgen build-mofs --count 330 --max-atoms 200 --out hypothetical --workers 0 \\
        --nets pcu,dia,nbo,bcu,fcu,acs,sra,lvt,rtl,tbo,pts,scu,bnn,srs,ths,cds,hex,flu,qtz,stp,pyr
    python scripts/make_mof_demo.py hypothetical/mofs

Keeps the good rows, each recipe once, and adds the column `split` (80 % train, 10 % val, 10 % test, by a hash of the
name). Origin and licence are in the file's metadata.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa

from cluster.parts import part_paths, read_table, write_table
from matgen.data.splits import assign_splits

OUTPUT = Path(__file__).parents[1] / "experiments" / "data" / "mof_demo.parquet"
COLUMNS = ("name", "net", "blocks", "formula", "num_atoms", "rmsd", "cif")
ORIGIN = (
    "Hypothetical frameworks: PORMAKE 0.2.3's building blocks on its nets, not relaxed. "
    "PORMAKE: S. Lee et al., ACS Appl. Mater. Interfaces 13 (2021) 23647; MIT licence."
)


def main(directory: Path) -> None:
    """Select, split and write."""
    seen: set[tuple[str, str]] = set()
    rows = []
    for part in part_paths(directory):
        for row in read_table(part).to_pylist():
            if row["status"] == "ok" and (row["net"], row["blocks"]) not in seen:
                seen.add((row["net"], row["blocks"]))
                rows.append({key: row[key] for key in COLUMNS})
    for row, split in zip(rows, assign_splits([row["name"] for row in rows], (0.8, 0.1, 0.1), 0), strict=True):
        row["split"] = split
    config = json.dumps(json.loads((directory / "run.json").read_text())["config"])
    write_table(OUTPUT, pa.Table.from_pylist(rows), {"origin": ORIGIN, "licence": "MIT", "build_mofs": config})
    print(f"{len(rows)} frameworks, {OUTPUT.stat().st_size / 1e6:.2f} MB: {OUTPUT}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
