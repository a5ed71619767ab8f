"""Run mofchecker itself on random frameworks of QMOF and CoRE MOF and freeze what it says, for tests/reference.

mofchecker 0.9.6 (MIT licence, K. M. Jablonka) lives in an environment of its own, Python 3.10, because its cone-angle
library has no wheel for newer ones:

    pip install "setuptools<81" "pybind11>=2.13" "numpy<2"
    pip install pyeqeq --no-build-isolation
    pip install mofchecker==0.9.6 pymatgen==2024.6.10 pyarrow
    python scripts/make_mofchecker_reference.py DATA/qmof.parquet DATA/core_mof_2019_asr.parquet --parts DIR \
        --out tests/reference/mofchecker.json

Each framework is a file in DIR, so that a run can be stopped and taken up again. Structures are not frozen, only their
names and a hash of the CIF.
"""

import argparse
import hashlib
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


COSTLY = ("no_lone_molecule", "no_high_charges")
"""These two take nine tenths of the time: they come after the others are done, on the first --costly frameworks."""
ANGLES = ("no_undercoordinated_carbon", "no_undercoordinated_nitrogen")
"""These two measure angles. mofchecker asks pymatgen's Structure for them, which takes atoms where they lie in the
cell: a bond across the boundary gives a wrong angle. They are asked a second time with nearest images."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parquet", type=Path, nargs="+")
    parser.add_argument("--parts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=250, help="frameworks of each file")
    parser.add_argument("--costly", type=int, default=250, help="the first of these are asked the slow checks too")
    parser.add_argument("--max-atoms", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deadline", type=int, default=300, help="seconds for one check")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen = [choose(path, args) for path in args.parquet]
    rounds = (("cheap", [c for c in CHECKS if c not in COSTLY], args.count), ("costly", list(COSTLY), args.costly))
    for folder, checks, count in rounds:
        (args.parts / folder).mkdir(parents=True, exist_ok=True)
        for key, cif in (row for rows in zip(*(c[:count] for c in chosen), strict=True) for row in rows):
            part = args.parts / folder / f"{key.replace('/', '-')}.json"
            if not part.exists():
                part.write_text(json.dumps(run_checks(cif, checks, args.deadline)))
    freeze(dict(row for rows in chosen for row in rows), args)


def choose(path: Path, args: argparse.Namespace) -> list[tuple[str, str]]:
    """Names and CIFs of random ordered frameworks that are not too large."""
    table = pq.read_table(path)
    disorder = table["disorder"].to_pylist() if "disorder" in table.column_names else [None] * table.num_rows
    sizes = table["n_atoms"].to_pylist()
    small = [i for i in range(table.num_rows) if sizes[i] <= args.max_atoms and not disorder[i]]
    rows = random.Random(args.seed).sample(small, args.count)
    return [(f"{path.stem}/{table['name'][i]}", str(table["cif"][i])) for i in rows]


def run_checks(cif: str, checks: list[str], deadline: int) -> dict[str, Any]:
    """What each check says: true is a pass, null where it gave no answer, and then why."""
    from mofchecker import MOFChecker
    from pymatgen.core import Structure

    start = time.process_time()
    found: dict[str, Any] = {"passed": {}, "periodic": {}, "reason": {}, "cpu_s": 0.0}
    try:
        checker = MOFChecker(Structure.from_str(cif, fmt="cif"))
    except Exception as error:  # noqa: BLE001  (spglib finds no symmetry, for one)
        found["passed"] = dict.fromkeys(checks)
        found["periodic"] = dict.fromkeys(ANGLES)
        found["reason"] = dict.fromkeys(checks, f"{type(error).__name__}: {error}"[:200])
        return found
    for name in checks:
        _ask(checker, name, found["passed"], found["reason"], deadline)
    kind = type(checker.structure)
    kind.get_angle, kind.get_dihedral = _angle, _dihedral
    try:
        for name in set(ANGLES) & set(checks):
            checker.checks[CHECKS[name]] = type(checker.checks[CHECKS[name]]).from_mofchecker(checker)
            _ask(checker, name, found["periodic"], {}, deadline)
    finally:
        del kind.get_angle, kind.get_dihedral
    found["cpu_s"] = time.process_time() - start
    return found


def _ask(checker: Any, name: str, answers: dict[str, Any], reasons: dict[str, str], deadline: int) -> None:
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(deadline)
    try:
        answer = checker.checks[CHECKS[name]].is_ok
        answers[name] = None if answer is None else bool(answer)
    except Exception as error:  # noqa: BLE001  (whatever mofchecker trips over is no answer)
        answers[name] = None
        reasons[name] = f"{type(error).__name__}: {error}"[:200]
    finally:
        signal.alarm(0)


def _vector(structure: Any, i: int, j: int) -> Any:
    """From atom i to the nearest image of atom j."""
    _, image = structure[i].distance_and_image(structure[j])
    return structure.lattice.get_cartesian_coords(structure[j].frac_coords + image - structure[i].frac_coords)


def _angle(structure: Any, i: int, j: int, k: int) -> float:
    from pymatgen.util.coord import get_angle

    return float(get_angle(_vector(structure, j, i), _vector(structure, j, k), units="degrees"))


def _dihedral(structure: Any, i: int, j: int, k: int, m: int) -> float:
    """As pymatgen has it, but with nearest images."""
    import numpy as np

    last, middle, first = -_vector(structure, k, m), -_vector(structure, j, k), -_vector(structure, i, j)
    across, along = np.cross(last, middle), np.cross(middle, first)
    return float(np.degrees(np.arctan2(last @ along * np.linalg.norm(middle), across @ along)))


def _stop(*_: object) -> None:
    raise TimeoutError("past the deadline")


def freeze(cifs: dict[str, str], args: argparse.Namespace) -> None:
    """One small table: a string of one character for each check, 1 passed, 0 failed, - no answer, . not asked."""
    letters = {True: "1", False: "0", None: "-"}
    answers, periodic, reasons, seconds = {}, {}, {}, 0.0
    for name in sorted(cifs):
        paths = [args.parts / folder / f"{name.replace('/', '-')}.json" for folder in ("cheap", "costly")]
        parts = [json.loads(path.read_text()) for path in paths if path.exists()]
        passed = {check: answer for part in parts for check, answer in part["passed"].items()}
        answers[name] = "".join(letters[passed[check]] if check in passed else "." for check in CHECKS)
        periodic[name] = "".join(letters[parts[0]["periodic"][check]] for check in ANGLES)
        seconds += sum(part["cpu_s"] for part in parts)
        if reason := {check: text for part in parts for check, text in part["reason"].items()}:
            reasons[name] = reason
    packages = ("mofchecker", "pymatgen", "structuregraph-helpers", "element-coder", "libconeangle", "pyeqeq", "spglib")
    record = {
        "source": "mofchecker (MIT licence), run by scripts/make_mofchecker_reference.py on QMOF and CoRE MOF 2019",
        "versions": {package: version(package) for package in packages},
        "seed": args.seed,
        "max_atoms": args.max_atoms,
        "sha1_of_cif": {name: hashlib.sha1(cif.encode()).hexdigest()[:12] for name, cif in sorted(cifs.items())},
        "checks": list(CHECKS),
        "answers": answers,
        "periodic_checks": list(ANGLES),
        "periodic_answers": periodic,
        "no_answer": reasons,
        "cpu_s": round(seconds, 1),
    }
    args.out.write_text(json.dumps(record, indent=0) + "\n")


if __name__ == "__main__":
    main()
