"""Make the folder that `matgen generate --kind mof` starts from: averaged weights as float16, and a smaller library.

    python scripts/ship_mofs.py runs/qmof --out experiments/checkpoints/mofdiff_qmof --conformers 3 --data DIR

Of each identity the library keeps the first conformers, at most as many as asked for: those of different frameworks.
With the frameworks at hand (--data) blocks are kept only of those without a fault that would come along with a block:
an atom that misses a neighbour, for instance nitrogen its hydrogen; and only of elements for which there are charges
(charge equilibration has none for actinides), without which a framework cannot be judged.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from matgen.data.mof_properties import properties_of, save_properties
from matgen.data.mof_records import CoarseRecords
from matgen.data.mof_statistics import CoarseStatistics
from matgen.evaluation.eqeq import has_parameters
from matgen.evaluation.mof_checks import check_mof
from matgen.mof.block_library import BlockLibrary
from matgen.sources.source import open_source
from matgen.training.checkpoint import find_checkpoint

INHERITED = (
    *("has_hydrogen", "no_overcoordinated_carbon", "no_overcoordinated_nitrogen", "no_overcoordinated_hydrogen"),
    *("no_undercoordinated_carbon", "no_undercoordinated_nitrogen", "no_undercoordinated_alkali"),
    *("no_undercoordinated_rare_earth", "no_exposed_metal", "no_terminal_oxo"),
)
"""Checks that a framework fails because a block of it does; has_hydrogen: one without any."""


def sound(library: BlockLibrary, source: str, data: Path) -> BlockLibrary:
    """The blocks of frameworks that pass these checks; frameworks that are not there count as unsound."""
    names = set(library.source_names)
    good = set()
    frameworks = open_source(source, data)
    for row in tqdm(frameworks, total=len(frameworks), desc="checks"):
        if row.id in names and row.structure is not None:
            results = check_mof(row.structure)
            passed = all(results[name].status != "failed" for name in INHERITED)
            if passed and has_parameters(row.structure.atomic_numbers):
                good.add(row.id)
    is_good = np.array([name in good for name in library.source_names])
    if not is_good.any():
        raise SystemExit(f"no framework of the library is in {source} and passes: is it the right data set?")
    print(f"{is_good.sum()} of {len(is_good)} frameworks have charges and pass {', '.join(INHERITED)}")
    return library.select(np.flatnonzero(is_good[library.source_index]))


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
    parser.add_argument("--data", type=Path, help="folder with the data set, for blocks of sound frameworks only")
    parser.add_argument("--source", default="qmof", help="the data set's name or path (default: qmof)")
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
    kept = library if arguments.data is None else sound(library, arguments.source, arguments.data)
    kept = smaller(kept, arguments.conformers)
    kept.save(arguments.out / "blocks.safetensors")
    size = sum(path.stat().st_size for path in arguments.out.iterdir()) / 1e6
    print(f"{kept.num_blocks} of {library.num_blocks} blocks, {kept.num_identities} identities, {size:.1f} MB in all")


if __name__ == "__main__":
    main()
