"""Make the folder that `matgen generate --kind mof` starts from: averaged weights as float16, and a smaller library.

    python scripts/ship_mofs.py runs/qmof --out experiments/checkpoints/mofdiff_qmof --conformers 3

Of each identity the library keeps the first conformers, at most as many as asked for: those of different frameworks.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from matgen.data.mof_properties import properties_of, save_properties
from matgen.data.mof_records import CoarseRecords
from matgen.data.mof_statistics import CoarseStatistics
from matgen.mof.block_library import BlockLibrary
from matgen.training.checkpoint import find_checkpoint


def smaller(library: BlockLibrary, conformers: int) -> BlockLibrary:
    """The first conformers of each identity."""
    first = np.repeat(library.conformer_offsets[:-1], np.diff(library.conformer_offsets))
    return library.select(np.flatnonzero(np.arange(library.num_blocks) - first < conformers))


def main() -> None:
    """Write the folder and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of a finished run, with checkpoint/ and embedded/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--conformers", type=int, default=3, help="of each identity, at most (default: 3)")
    arguments = parser.parse_args()
    checkpoint = find_checkpoint(arguments.run / "checkpoint")
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights = load_file(checkpoint / "weights.safetensors")
    save_file(
        {name: value.to(torch.float16) if value.is_floating_point() else value for name, value in weights.items()},
        arguments.out / "weights.safetensors",
    )
    for name in ("config.json", CoarseStatistics.file_name):
        shutil.copyfile(checkpoint / name, arguments.out / name)
    records = CoarseRecords.load(arguments.run / "embedded" / "coarse_train.safetensors")
    save_properties(properties_of(records), arguments.out / "properties.json")
    library = BlockLibrary.load(arguments.run / "embedded" / "blocks_train.safetensors")
    kept = smaller(library, arguments.conformers)
    kept.save(arguments.out / "blocks.safetensors")
    size = sum(path.stat().st_size for path in arguments.out.iterdir()) / 1e6
    print(f"{kept.num_blocks} of {library.num_blocks} blocks, {kept.num_identities} identities, {size:.1f} MB in all")


if __name__ == "__main__":
    main()
