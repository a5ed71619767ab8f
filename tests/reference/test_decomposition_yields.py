"""How many frameworks of the two large data sets are cut: `MATGEN_DATA` set."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from matgen.crystal.cif import parse_cif
from matgen.crystal.structure import check
from matgen.errors import StructureError
from matgen.mof.decompose import decompose

pytestmark = pytest.mark.data


def statuses(path: Path, step: int) -> Counter[str]:
    flag = ["disorder"] if "disorder" in pq.read_schema(path).names else []
    table = pq.read_table(path, columns=["cif", *flag])
    counts: Counter[str] = Counter()
    for row in table.take(list(range(0, table.num_rows, step))).to_pylist():
        if row.get("disorder"):
            continue
        try:
            structure = parse_cif(row["cif"])
            check(structure)
            decompose(structure)
            counts["ok"] += 1
        except StructureError as error:
            counts[error.status] += 1
    return counts


@pytest.mark.parametrize(("name", "step", "least"), [("qmof", 90, 0.90), ("core_mof_2019_asr", 90, 0.78)])
def test_yields(data_dir: Path, name: str, step: int, least: float) -> None:
    # of every sixth row, 95.3 % (n = 3,062) and 87.3 % (n = 1,861) were cut
    counts = statuses(data_dir / f"{name}.parquet", step)
    assert counts["ok"] >= least * counts.total(), counts
