"""Build the hull of a reference set with CHGNet, in resumable parts, on one core.

    python scripts/build_hull.py CACHE_DIR REFERENCE.parquet [REFERENCE.parquet ...]

Run it again after an interruption: finished parts are kept.
"""

import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main(arguments: list[str]) -> None:
    """Build, then print the sizes and the calibration on the test split."""
    if len(arguments) < 2:
        raise SystemExit(__doc__)
    import torch

    from matgen.relaxation.mlip import CHGNetPotential
    from matgen.relaxation.reference import HullConfig, build_hull, read_reference

    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    entries = read_reference([Path(path) for path in arguments[1:]])
    print(f"{len(entries)} reference crystals")
    hull = build_hull(entries, CHGNetPotential(), HullConfig(), Path(arguments[0]))
    print(hull.sizes())
    for split in sorted({name for name in hull.splits if name}):
        print(split, hull.calibration(split, max_entries=5000))


if __name__ == "__main__":
    main(sys.argv[1:])
