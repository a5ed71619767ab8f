"""Run mofchecker itself on random QMOF frameworks and freeze what it says, for tests/reference.

mofchecker 0.9.6 (MIT licence, K. M. Jablonka) lives in an environment of its own, Python 3.10, because its cone-angle
library has no wheel for newer ones:

    pip install "setuptools<81" "pybind11>=2.13" "numpy<2"
    pip install pyeqeq --no-build-isolation
    pip install mofchecker==0.9.6 pyarrow
    python scripts/make_mofchecker_reference.py DATA/qmof.parquet --parts DIR --out tests/reference/mofchecker_qmof.json

Each framework is one line in DIR, so that a run can be stopped and taken up again.
"""

import argparse
import json
import random
import signal
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

CHECKS = {
    "has_metal": "has_metal",
    "has_carbon": "has_c",
    "has_hydrogen": "has_h",
    "no_atomic_overlap": "no_atomic_overlaps",
    "no_overcoordinated_carbon": "no_overcoordinated_carbon",
    "no_overcoordinated_nitrogen": "no_overcoordinated_nitrogen",
    "no_overcoordinated_hydrogen": "no_overcoordinated_hydrogen",
    "no_undercoordinated_carbon": "no_undercoordinated_carbon",
    "no_undercoordinated_nitrogen": "no_undercoordinated_nitrogen",
    "no_undercoordinated_rare_earth": "no_undercoordinated_rare_earth",
    "no_undercoordinated_alkali": "no_undercoordinated_alkali_alkaline",
    "no_lone_molecule": "no_floating_molecule",
    "no_terminal_oxo": "no_false_terminal_oxo",
    "no_exposed_metal": "no_geometrically_exposed_metal",
    "no_high_charges": "no_high_charges",
}
"""Our name of each check, and mofchecker's key. Its porosity check only calls zeo++, which has its own reference."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parquet", type=Path)
    parser.add_argument("--parts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deadline", type=int, default=900, help="seconds for one check")
    args = parser.parse_args()
    args.parts.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(args.parquet, columns=["name", "cif"])
    rows = random.Random(args.seed).sample(range(table.num_rows), args.count)
    for i in sorted(rows):
        name = str(table["name"][i])
        part = args.parts / f"{name}.json"
        if not part.exists():
            part.write_text(json.dumps(run_checks(str(table["cif"][i]), args.deadline)))
    names = sorted(str(table["name"][i]) for i in rows)
    freeze(names, args)


def run_checks(cif: str, deadline: int) -> dict[str, Any]:
    """What each check says: true is a pass, null where it gave no answer, and then why; and how many atoms it flags."""
    from mofchecker import MOFChecker
    from pymatgen.core import Structure

    warnings.simplefilter("ignore")
    start = time.process_time()
    checker = MOFChecker(Structure.from_str(cif, fmt="cif"))
    found: dict[str, Any] = {"passed": {}, "reason": {}, "flagged": {}, "num_atoms": len(checker.structure)}
    for ours, theirs in CHECKS.items():
        signal.signal(signal.SIGALRM, _stop)
        signal.alarm(deadline)
        try:
            check = checker.checks[theirs]
            answer = check.is_ok
            found["passed"][ours] = None if answer is None else bool(answer)
            found["flagged"][ours] = len(getattr(check, "flagged_indices", []) or [])
        except Exception as error:  # noqa: BLE001  (whatever mofchecker trips over is no answer)
            found["passed"][ours] = None
            found["reason"][ours] = f"{type(error).__name__}: {error}"[:200]
        finally:
            signal.alarm(0)
    found["cpu_s"] = time.process_time() - start
    return found


def _stop(*_: object) -> None:
    raise TimeoutError("past the deadline")


def freeze(names: list[str], args: argparse.Namespace) -> None:
    """One small table: a string of one character for each check, 1 passed, 0 failed, - no answer."""
    parts = {name: json.loads((args.parts / f"{name}.json").read_text()) for name in names}
    letters = {True: "1", False: "0", None: "-"}
    packages = ("mofchecker", "pymatgen", "structuregraph-helpers", "element-coder", "libconeangle", "pyeqeq", "spglib")
    record = {
        "source": "mofchecker (MIT licence), run by scripts/make_mofchecker_reference.py on random frameworks of QMOF",
        "versions": {package: version(package) for package in packages},
        "seed": args.seed,
        "checks": list(CHECKS),
        "answers": {n: "".join(letters[p["passed"][c]] for c in CHECKS) for n, p in parts.items()},
        "no_answer": {n: p["reason"] for n, p in parts.items() if p["reason"]},
        "cpu_s": round(sum(p["cpu_s"] for p in parts.values()), 1),
    }
    args.out.write_text(json.dumps(record, indent=0) + "\n")


if __name__ == "__main__":
    main()
