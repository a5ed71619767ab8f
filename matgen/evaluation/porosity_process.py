"""The child process of `porosity`: a request a line on standard input, an answer a line on standard output.

Zeo++ writes to C's standard output, so that it is pointed at nothing and the answers go to a copy of it made before.
"""

import json
import math
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from matgen.crystal.cif_writer import write_cif
from matgen.crystal.structure import Structure

__all__ = ["main"]

_OVERTIME = 2.0  # of the deadline; who asked has killed this process long before, or is dead himself


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    with tempfile.TemporaryDirectory(prefix="matgen-pores-") as folder:
        for line in sys.stdin:
            try:
                request = json.loads(line)
                signal.alarm(math.ceil(_OVERTIME * request["config"]["deadline_s"]))
                answer = _measure(request, Path(folder))
            except (ValueError, RuntimeError, OSError, IndexError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"[:300]}
            signal.alarm(0)
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def _measure(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    from pyzeo import AtomNetwork, high_accuracy_atomnet, surface_area, volume

    structure = Structure(
        np.array(request["lattice"]), np.array(request["frac_coords"]), np.array(request["atomic_numbers"])
    )
    config = request["config"]
    cif, result = folder / "framework.cif", folder / "framework.res"
    cif.write_text(write_cif(structure, name="framework"), encoding="utf-8")
    network = AtomNetwork.read_from_CIF(str(cif), rad_flag=True)
    spheres = _spheres(network, result)
    low, high = config["refine_between"]
    if low <= spheres[1] <= high:
        small = AtomNetwork.read_from_CIF(str(cif), rad_flag=True)
        high_accuracy_atomnet(small, "DEF")
        spheres = _spheres(small, result)
    probe, void_probe = config["probe_radius"], config["void_probe_radius"]
    area = surface_area(network, probe, probe, config["surface_samples"], False).decode()
    void = volume(network, void_probe, void_probe, config["void_samples"] * structure.num_atoms, False).decode()
    return {
        "largest_cavity_diameter": spheres[0],
        "pore_limiting_diameter": spheres[1],
        "area": _number("ASA_A^2", area),
        "void_fraction": _number("AV_Volume_fraction", void) + _number("NAV_Volume_fraction", void),
    }


def _spheres(network: Any, result: Path) -> tuple[float, float]:
    """Diameters of the largest included and of the largest free sphere, Å."""
    result.unlink(missing_ok=True)
    network.calculate_free_sphere_parameters(str(result))
    included, free = result.read_text().split()[1:3]
    return float(included), float(free)


def _number(key: str, text: str) -> float:
    found = re.search(rf"(?<!\w){re.escape(key)}:\s*(\S+)", text)
    if found is None:
        raise ValueError(f"Zeo++ gave no {key}")
    return float(found[1])


if __name__ == "__main__":
    main()
