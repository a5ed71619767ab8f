"""Which folders and columns a page reads, of a run on crystals and of one on frameworks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from matgen.evaluation.mof_checks import CHECKS
from matgen.evaluation.report.tables import read_json

_TEXT = ("sample_id", "status", "reason")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the stages of one kind of run leave.

    kind: "crystals" or "frameworks". folders: of each stage, below a run's directory, in the order of the line. own:
    stages that belong to the run and not to one of its sets of samples. trainings: those that leave a history, and what
    they train. records, samples, structures, relaxed, scores: the columns that are read.
    """

    kind: str
    folders: Mapping[str, str]
    own: tuple[str, ...]
    trainings: Mapping[str, str]
    records: tuple[str, ...]
    samples: tuple[str, ...]
    structures: tuple[str, ...]
    relaxed: tuple[str, ...]
    scores: tuple[str, ...]


_LATER = {"sample": "samples", "decode": "structures", "relax": "relaxed", "evaluate": "scores"}
_SAMPLES = (*_TEXT, "space_group_number", "num_orbits")

CRYSTALS = Layout(
    kind="crystals",
    folders={"preprocess": "records", "train": "checkpoint", **_LATER},
    own=("preprocess", "train"),
    trainings={"train": "training"},
    records=("status", "reason", "split", "space_group_number", "lattice_k", "atomic_numbers", "multiplicity"),
    samples=_SAMPLES,
    structures=(*_SAMPLES, "atomic_numbers", "multiplicities", "lattice", "raw_min_distance", "raw_min_ratio",
                "min_ratio", "moved_orbits"),
    relaxed=(*_TEXT, "relax_status", "converged", "energy_per_atom", "e_above_hull", "rmsd_to_relaxed"),
    scores=(*_TEXT, "formula", "density", "num_elements", "space_group_detected", "valid", "structure_valid",
            "component", "novel_train", "e_above_hull"),
)  # fmt: skip

PORES = ("largest_cavity_diameter", "pore_limiting_diameter", "accessible_surface_area", "void_fraction")

FRAMEWORKS = Layout(
    kind="frameworks",
    folders={"preprocess": "records", "train_blocks": "block_encoder", "embed": "embedded",
             "score_blocks": "block_scores", "train": "checkpoint", **_LATER, "achieve": "achieved"},
    own=("preprocess", "train_blocks", "embed", "score_blocks", "train"),
    trainings={"train_blocks": "block encoder", "train": "coarse diffusion"},
    records=("status", "reason", "split"),
    samples=(*_TEXT, "num_blocks"),
    structures=(*_TEXT, "num_blocks", "num_assembled", "num_trials", "trial_status", "num_atoms", "formula",
                "shortest_contact"),
    relaxed=(*_TEXT, "relax_status", "energy", "rmsd_to_relaxed", "volume_ratio"),
    scores=(*_TEXT, "decode_status", "assemble_status", "relax_status", "mof_valid", "checks_reason",
            *(f"check_{name}" for name in CHECKS), "porosity_status", "porosity_reason", *PORES, "identity", "density",
            "num_blocks", "num_atoms", "elements", "novel", "unique"),
)  # fmt: skip

LAYOUTS = (CRYSTALS, FRAMEWORKS)


def find_layout(directory: Path) -> Layout | None:
    """What kind of run a directory holds, by the records of its stages; None where they do not say."""
    for folder in dict.fromkeys((*FRAMEWORKS.folders.values(), *CRYSTALS.folders.values())):
        experiment = read_json(directory / folder / "run.json").get("experiment")
        if experiment:
            return FRAMEWORKS if "blocks" in experiment else CRYSTALS
    if any((directory / FRAMEWORKS.folders[stage]).is_dir() for stage in ("train_blocks", "embed")):
        return FRAMEWORKS
    return FRAMEWORKS if reconstructions_of(directory) else None


def reconstructions_of(directory: Path) -> list[Path]:
    """Tables of reconstructed frameworks in a directory and in the folders below it."""
    found = [directory / "reconstruct.parquet", *sorted(directory.glob("*/reconstruct.parquet"))]
    return [path for path in found if path.is_file() and _is_of_frameworks(path)]


def _is_of_frameworks(path: Path) -> bool:
    try:
        return "closed" in pq.read_schema(path).names
    except (OSError, ValueError):
        return False
