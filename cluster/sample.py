"""Stage 2: draw asymmetric units from a trained model. The table does not depend on the number of workers."""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cluster.campaign import run_campaign
from cluster.lineage import finish_stage, require_stage
from cluster.parts import Shard, iterate_rows
from cluster.preprocess import UNIT_FIELDS
from cluster.run import Run
from matgen.config import SampleConfig
from matgen.crystal.elements import SYMBOLS
from matgen.crystal.wyckoff import site_misfits, template_from_letters
from matgen.data.priors import NUM_SPECIES, Priors
from matgen.errors import ConfigError, StageError, SymmetryError
from matgen.models.requests import Template, requests_for, species_allowed
from matgen.models.symmcd import SymmCD
from matgen.models.symmcd_sampling import SampleBatch, SampleRequest
from matgen.training.checkpoint import content_hash, find_checkpoint
from matgen.training.tasks import load_trained

logger = logging.getLogger(__name__)

SHIPPED_CHECKPOINT = Path(__file__).resolve().parent.parent / "experiments" / "checkpoints" / "symmcd_mp20"

SAMPLE_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("seed", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("num_orbits", pa.int16()),
        *UNIT_FIELDS,
        ("template_letters", pa.list_(pa.string())),
    ]
)


class SampleWork:
    """Samples the sample_ids of a shard, in batches cut from the shard's content alone."""

    schema = SAMPLE_SCHEMA

    def __init__(self, checkpoint: Path, config: SampleConfig, seed: int, templates: Sequence[Template] = ()) -> None:
        self.checkpoint = checkpoint
        self.config = config
        self.seed = seed
        self.templates = tuple(templates)
        self.required = [species_index(symbol) for symbol in config.require_elements]
        self.allowed = species_allowed(
            [species_index(symbol) for symbol in config.elements],
            self.required,
            [species_index(symbol) for symbol in config.forbid_elements],
        )
        self.model: SymmCD | None = None

    def setup(self) -> None:
        """Load the model, onto this worker's GPU where it has one."""
        self.model = load_symmcd(self.checkpoint)
        self.priors = self.model.priors
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)

    def load(self, shard: Shard) -> Sequence[int]:
        """The sample_ids of a shard."""
        return range(shard.payload, shard.payload + shard.num_rows)

    def process(self, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        """Sample them."""
        assert self.model is not None, "setup comes first"
        ids = np.asarray(rows, dtype=np.int64)
        request, letters = self.requests(ids, self.priors)
        operations = self.priors.num_operations[request.space_group_number]
        # Batches of like size: padding costs the square of the number of orbits.
        order = np.lexsort((ids, operations.numpy(), request.num_orbits.numpy()))
        done: list[Mapping[str, Any] | None] = [None] * len(ids)
        for start in range(0, len(ids), self.config.batch_size):
            chosen = order[start : start + self.config.batch_size]
            part = request.select(torch.from_numpy(chosen))
            batch = self.model.sample(part.to(self.device), self.config.sampler, site_misfits=site_misfits_of)
            for row, columns in zip(chosen, sample_columns(batch), strict=True):
                seed = int(request.seeds[row])
                done[row] = {"sample_id": int(ids[row]), "seed": seed, "template_letters": letters[row], **columns}
        return [row for row in done if row is not None]

    def requests(self, ids: np.ndarray, priors: Priors) -> tuple[SampleRequest, list[tuple[str, ...] | None]]:
        """What each sample is to be."""
        return requests_for(
            ids,
            self.seed,
            priors,
            self.config,
            allowed=self.allowed,
            required=self.required,
            templates=self.templates,
        )

    def failed(self, row: int, status: str, reason: str) -> Mapping[str, Any]:
        """A sample that could not be drawn."""
        return {"sample_id": int(row), "status": status, "reason": reason}


def site_misfits_of(group: torch.Tensor, frac_coords: torch.Tensor, lattice: torch.Tensor) -> torch.Tensor:
    """`site_misfits` of tensors, for the sampler: Å [Q, C] of points [Q, 3] in lattices [Q, 3, 3] of groups [Q]."""
    rows = lattice.double().cpu().numpy()
    found = site_misfits(group.cpu().numpy(), frac_coords.double().cpu().numpy(), rows @ rows.transpose(0, 2, 1))
    return torch.from_numpy(found).to(frac_coords.device)


def load_symmcd(checkpoint: Path) -> SymmCD:
    """Load a SymmCD model from a checkpoint directory.

    Raises:
        CheckpointError: it is missing or corrupt.
    """
    model = load_trained(checkpoint, "symmcd")
    assert isinstance(model, SymmCD)
    return model


def sample_columns(batch: SampleBatch) -> list[dict[str, Any]]:
    """Table columns of each sampled crystal; one that is not finite has the status "non_finite"."""
    lattice, coords = batch.lattice_k.double().cpu().numpy(), batch.frac_coords.double().cpu().numpy()
    species, codes = batch.species_index.cpu().numpy(), batch.site_symmetry.cpu().numpy()
    groups, counts = batch.space_group_number.cpu().numpy(), batch.num_orbits.cpu().numpy()
    rows = []
    for i, count in enumerate(counts):
        finite = bool(np.isfinite(lattice[i]).all() and np.isfinite(coords[i, :count]).all())
        rows.append(
            {
                "status": "ok" if finite else "non_finite",
                "reason": "" if finite else "the sampler left a lattice or coordinate that is not finite",
                "space_group_number": int(groups[i]),
                "num_orbits": int(count),
                "lattice_k": lattice[i].tolist(),
                "frac_coords": coords[i, :count].ravel().tolist(),
                "atomic_numbers": (species[i, :count] + 1).tolist(),
                "site_symmetry": codes[i, :count].ravel().tolist(),
            }
        )
    return rows


def species_index(symbol: str) -> int:
    """Return Z - 1 of an element symbol.

    Raises:
        ConfigError: no element that the models know.
    """
    if symbol not in SYMBOLS[1 : NUM_SPECIES + 1]:
        raise ConfigError(f"unknown element {symbol!r}: use symbols from H to {SYMBOLS[NUM_SPECIES]}, as in Li,Fe,P,O")
    return SYMBOLS.index(symbol) - 1


def parse_template(text: str) -> Template:
    """Read a template such as "225:a,b" or "225:4a=Na,4b=Cl".

    Raises:
        ConfigError: no such space group, Wyckoff position or element, or a fixed position used twice.
    """
    number, colon, orbits = text.partition(":")
    entries = [entry.strip() for entry in orbits.split(",") if entry.strip()]
    if not colon or not number.strip().isdigit() or not entries:
        raise ConfigError(f"a template is a space group and its orbits, as in 225:a,b or 225:a=Na,b=Cl; got {text!r}")
    letters, species = [], []
    for entry in entries:
        match = re.fullmatch(r"(\d*[A-Za-z])\s*(?:=\s*([A-Za-z]+))?", entry)
        if match is None:
            raise ConfigError(f"template {text!r}: {entry!r} is no Wyckoff letter, nor LETTER=ELEMENT")
        letters.append(match[1])
        species.append(-1 if match[2] is None else species_index(match[2]))
    return make_template(int(number), letters, species)


def make_template(space_group_number: int, letters: Sequence[str], species: Sequence[int] | None = None) -> Template:
    """Build a template from letters.

    Raises:
        ConfigError: no such space group or position, or a fixed position used twice.
    """
    try:
        codes, _ = template_from_letters(space_group_number, letters)
    except SymmetryError as error:
        raise ConfigError(str(error)) from error
    return Template(
        space_group_number=space_group_number,
        letters=tuple(letter.lstrip("0123456789") for letter in letters),
        site_symmetry=tuple(tuple(int(value) for value in code) for code in codes),
        species_index=tuple(species) if species is not None else (-1,) * len(letters),
    )


def training_templates(records: Path) -> list[Template]:
    """Return the template of every training crystal, one each, so that drawing uniformly follows their frequency.

    Args:
        records: directory of the stage preprocess.
    """
    require_stage(records, "preprocess")
    known: dict[tuple[int, tuple[str, ...]], Template] = {}
    templates = []
    columns = ["status", "split", "space_group_number", "wyckoff_letters"]
    for row in iterate_rows(records, columns):
        if row["status"] == "ok" and row["split"] == "train":
            key = (row["space_group_number"], tuple(row["wyckoff_letters"]))
            if key not in known:
                known[key] = make_template(*key)
            templates.append(known[key])
    if not templates:
        raise StageError(f"{records} has no training crystal to take a template from")
    return templates


def sample(run: Run) -> dict[str, Any]:
    """Draw the experiment's samples and write `samples/`.

    Returns:
        The stage's summary.

    Raises:
        CheckpointError: there is no checkpoint, or it is corrupt.
        ConfigError: elements or template that cannot be.
        StageError: the directory cannot be written or holds another run.
    """
    started = time.monotonic()
    config = run.experiment.sample
    checkpoint = find_checkpoint(run.checkpoint or run.directory("train"))
    inputs = {"checkpoint": content_hash(checkpoint)[:16]}
    templates = [parse_template(config.template)] if config.template else []
    if config.templates_from_training_set:
        records = run.records_directory
        inputs["records"] = require_stage(records, "preprocess").identity
        templates = training_templates(records)
    work = SampleWork(checkpoint, config, run.experiment.seed, templates)
    work.requests(
        np.zeros(1, dtype=np.int64), load_priors(checkpoint)
    )  # refuses what cannot be before anything is made
    lineage = run.open_stage("sample", config, inputs)
    if lineage.complete:
        return lineage.summary
    starts = range(0, config.count, config.shard_size)
    shards = [Shard(index, min(config.shard_size, config.count - start), start) for index, start in enumerate(starts)]
    settings = run.gpu_campaign("sample", shard_deadline_s=6 * 3600.0, row_deadline_s=600.0)
    summary = run_campaign(work, shards, run.directory("sample"), settings, lineage.table_metadata).as_dict()
    finish_stage(run.directory("sample"), lineage, summary, time.monotonic() - started)
    logger.info("sample: %s in %.1f s", summary["status"], summary["seconds"])
    return summary


def load_priors(checkpoint: Path) -> Priors:
    """Load the priors of a checkpoint directory."""
    return Priors.load(checkpoint / "priors.safetensors")
