"""Pictures of what a model makes: a few samples at this point of its training, and good rows of a campaign."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cluster.parts import iterate_rows
from matgen.crystal.space_group import hermann_mauguin_symbol
from matgen.crystal.structure import Structure
from matgen.data.priors import NUM_SPECIES, Priors
from matgen.diffusion.sampler import SamplerConfig
from matgen.evaluation.report.picture import ATOM_SCALE, Scene, make_scene
from matgen.models.requests import SampleConfig, requests_for
from matgen.models.symmcd import SymmCD
from matgen.models.symmcd_sampling import SampleBatch
from matgen.representations.asymmetric_unit import AsymmetricUnit
from matgen.representations.decode import DecodedCrystal, decode

_COLUMNS = 4
_STRUCTURE = ("sample_id", "status", "lattice", "structure_frac_coords", "structure_atomic_numbers")


def picture_of_samples(
    model: SymmCD, priors: Priors, path: Path, *, count: int, num_steps: int = 50, seed: int = 0
) -> int:
    """Draw the same requests each time, so that pictures of one run can be compared.

    Args:
        model: with the weights to show, in evaluation mode.
        priors: of its training set, on the CPU.
        path: PNG file to write; its folder is made.
        count: samples.
        num_steps: network calls of the sampler.
        seed: of the samples.

    Returns:
        How many of them decode without a clash.
    """
    allowed = np.ones(NUM_SPECIES, dtype=bool)
    config = SampleConfig(count=count, sampler=SamplerConfig(num_steps=num_steps))
    request, _ = requests_for(np.arange(count), seed, priors, config, allowed=allowed)
    device = next(model.parameters()).device
    crystals = decode(_units(model.sample(request.to(device), config.sampler)))
    path.parent.mkdir(parents=True, exist_ok=True)
    _draw([_titled(crystal) for crystal in crystals], path)
    return sum(crystal.status == "ok" and not crystal.raw_clash for crystal in crystals)


def _units(batch: SampleBatch) -> list[AsymmetricUnit]:
    lattice, coords = batch.lattice_k.double().cpu().numpy(), batch.frac_coords.double().cpu().numpy()
    species, codes = batch.species_index.cpu().numpy(), batch.site_symmetry.cpu().numpy().astype(np.int8)
    groups, counts = batch.space_group_number.tolist(), batch.num_orbits.tolist()
    return [
        AsymmetricUnit(
            space_group_number=group,
            lattice_k=lattice[row],
            frac_coords=coords[row, :number],
            atomic_numbers=species[row, :number] + 1,
            site_symmetry=codes[row, :number],
            multiplicity=np.zeros(number, dtype=np.int64),  # decoding finds it
        )
        for row, (group, number) in enumerate(zip(groups, counts, strict=True))
    ]


def picture_of_parts(directory: Path, path: Path, count: int = 8) -> int:
    """Draw the first good rows of a campaign's finished parts, crystals or frameworks.

    Args:
        directory: of the parts; their rows have the columns of a structure.
        path: PNG file to write; its folder is made.
        count: rows to draw.

    Returns:
        How many were drawn; with none there is no file.
    """
    good = (row for row in iterate_rows(directory, _STRUCTURE) if row["status"] == "ok" and row["lattice"] is not None)
    shown = []
    for row in itertools.islice(good, count):
        structure = Structure(
            lattice=np.reshape(row["lattice"], (3, 3)),
            frac_coords=np.reshape(row["structure_frac_coords"], (-1, 3)),
            atomic_numbers=np.asarray(row["structure_atomic_numbers"], dtype=np.int64),
        )
        shown.append((structure, f"sample {row['sample_id']}\n{structure.formula}"))
    if shown:
        path.parent.mkdir(parents=True, exist_ok=True)
        _draw(shown, path)
    return len(shown)


def _titled(crystal: DecodedCrystal) -> tuple[Structure | None, str]:
    number = crystal.space_group_number
    said = crystal.structure.formula if crystal.structure is not None else crystal.status
    problem = "" if crystal.status == "ok" and not crystal.raw_clash else " (clash)"
    return crystal.structure, f"{said}{problem}\n{number} {hermann_mauguin_symbol(number)}"


def _draw(shown: Sequence[tuple[Structure | None, str]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(2.6 * _COLUMNS, 2.8 * rows), layout="constrained")
    for place, (structure, title) in enumerate(shown):
        axes = figure.add_subplot(rows, _COLUMNS, place + 1)
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.set_title(title, fontsize=8)
        if structure is not None:
            _draw_scene(axes, make_scene(structure))
    FigureCanvasAgg(figure).print_png(str(path))


def _draw_scene(axes: object, scene: Scene) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    from matgen.crystal.elements import COVALENT_RADII
    from matgen.evaluation.report.symbols import element_color

    turn, tilt = np.radians(-24.0), np.radians(14.0)
    about_c = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    towards = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    seen = scene.positions @ about_c @ towards  # x to the right, y into the picture, z up
    order = np.argsort(-seen[:, 1])
    circles = [Circle((seen[i, 0], seen[i, 2]), ATOM_SCALE * COVALENT_RADII[scene.numbers[i]]) for i in order]
    colors = [element_color(int(scene.numbers[i])) for i in order]
    axes.add_collection(PatchCollection(circles, facecolors=colors, edgecolors="#333333", linewidths=0.4))  # type: ignore[attr-defined]
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    placed = corners @ scene.lattice @ about_c @ towards
    for first in range(8):
        for second in range(first):
            if np.abs(corners[first] - corners[second]).sum() == 1:
                ends = placed[[first, second]]
                axes.plot(ends[:, 0], ends[:, 2], color="#888888", linewidth=0.6, zorder=0)  # type: ignore[attr-defined]
    axes.autoscale_view()  # type: ignore[attr-defined]


def draw_during_training(model: SymmCD, priors: Priors, path: Path, count: int) -> int:
    """Draw in the middle of training, and leave the model in training mode as it was."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return picture_of_samples(model, priors, path, count=count)
    finally:
        model.train(training)
