"""Decode and relax of frameworks: true embeddings come back as their framework, every failure is a status."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cluster.decode import stored_structure
from cluster.mof_comparison import framework_rms
from cluster.mof_decode import MofDecodeWork
from cluster.mof_library import LibraryChooser
from cluster.mof_relax import MofRelaxWork, relaxed_framework, stored_bonds
from matgen.models.mofdiff_sampling import SampledFeatures
from matgen.mof.block_library import BlockLibrary
from matgen.mof.building_block import METAL_NODE
from matgen.mof.choices import Grade
from matgen.mof.decompose import decompose
from matgen.mof.framework import Framework
from matgen.mof_config import MofDecodeConfig, MofRelaxConfig
from matgen.relaxation.uff_relax import UffRelaxConfig
from tests.unit.mof.conftest import load

NAMES = ("mof5", "mil53", "pillared", "mof74")


@pytest.fixture(scope="module")
def frameworks() -> dict[str, Framework]:
    return {name: decompose(load(name)) for name in NAMES}


@pytest.fixture(scope="module")
def embeddings(frameworks: dict[str, Framework]) -> dict[str, np.ndarray]:
    """A place for each identity, far from all others."""
    identities = sorted({block.identity for f in frameworks.values() for block in f.blocks})
    places = 10.0 * np.random.default_rng(0).standard_normal((len(identities), 8))
    return dict(zip(identities, places, strict=True))


@pytest.fixture(scope="module")
def decoder(
    frameworks: dict[str, Framework], embeddings: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> MofDecodeWork:
    blocks = [block for f in frameworks.values() for block in f.blocks]
    library = BlockLibrary.from_blocks(blocks, [name for name, f in frameworks.items() for _ in f.blocks])
    embedding = np.stack([embeddings[library.identity(i)] for i in range(library.num_blocks)]).astype(np.float32)
    path = tmp_path_factory.mktemp("library") / "blocks.safetensors"
    replace(library, embedding=embedding).save(path)
    work = MofDecodeWork(path, MofDecodeConfig())
    work.setup()
    return work


def sample(sample_id: int, framework: Framework, embeddings: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a perfect model would draw: the true lattice, centres and embeddings, and nothing on how blocks turn."""
    rng = np.random.default_rng(sample_id)
    noise = 0.01 * rng.standard_normal((framework.num_blocks, 8))
    return {
        "sample_id": sample_id,
        "seed": sample_id,
        "status": "ok",
        "reason": "",
        "num_blocks": framework.num_blocks,
        "coarse_lattice": framework.lattice.ravel(),
        "coarse_frac_coords": framework.frac_coords.ravel(),
        "is_metal": [block.role == METAL_NODE for block in framework.blocks],
        "num_connections": [float(block.num_connections) for block in framework.blocks],
        "embedding": (np.stack([embeddings[block.identity] for block in framework.blocks]) + noise).ravel(),
    }


def without(framework: Framework, index: int) -> Framework:
    kept = np.delete(np.arange(framework.num_blocks), index)
    return replace(framework, blocks=tuple(framework.blocks[k] for k in kept), frac_coords=framework.frac_coords[kept])


@pytest.fixture(scope="module")
def decoded(
    decoder: MofDecodeWork, frameworks: dict[str, Framework], embeddings: dict[str, np.ndarray]
) -> list[Mapping[str, Any]]:
    rows = [sample(k, frameworks[name], embeddings) for k, name in enumerate(NAMES)]
    mof5 = frameworks["mof5"]
    roles = [block.role for block in mof5.blocks]
    a_linker = next(k for k, role in enumerate(roles) if role != METAL_NODE)
    rows.append(sample(10, without(mof5, a_linker), embeddings))
    metals = [k for k, role in enumerate(roles) if role == METAL_NODE]
    rows.append(sample(11, without(mof5, metals), embeddings))
    rows.append(
        {"sample_id": 12, "seed": 12, "status": "too_large", "reason": "an earlier stage's", "num_blocks": None}
    )
    return decoder.process(rows)


def test_true_embeddings_come_back_as_their_framework(
    decoded: list[Mapping[str, Any]], frameworks: dict[str, Framework]
) -> None:
    for row, name in zip(decoded, NAMES, strict=False):
        assert row["status"] == "ok", (name, row["reason"])
        assert row["block_identities"] == [block.identity for block in frameworks[name].blocks]
        assert framework_rms(frameworks[name].to_structure()[0], stored_structure(row)) is not None, name
        lengths = np.linalg.norm(stored_bonds(row).vectors(stored_structure(row)), axis=1)
        assert lengths.max() < 3.5
        assert (row["num_trials"], row["trial_status"]) == (1, "sound")


def test_what_fails_its_trial_makes_way_for_other_blocks(
    decoder: MofDecodeWork, frameworks: dict[str, Framework], embeddings: dict[str, np.ndarray]
) -> None:
    """The row says of which blocks the framework is that was taken, whichever tier these came from."""
    row = sample(20, frameworks["mof5"], embeddings)
    for bad in (1, 4):
        grades = [Grade.FAULTY] * bad + [Grade.SOUND]
        again = MofDecodeWork(decoder.path, decoder.config)
        again.setup()
        again.trial = lambda made, grades=grades: grades.pop(0)  # type: ignore[assignment]
        (done,) = again.process([row])
        assert done["status"] in ("ok", "clash")
        assert 1 < done["num_trials"] <= bad + 1
        assert done["trial_status"] == ("sound" if not grades else "faulty")
        blocks = [again.library.block(int(index)) for index in done["block_index"]]
        assert [again.library.identity(int(index)) for index in done["block_index"]] == done["block_identities"]
        expected = np.concatenate([block.atomic_numbers for block in blocks])
        assert np.array_equal(done["structure_atomic_numbers"], expected)


def test_a_linker_too_few_and_no_metal_at_all_are_statuses(decoded: list[Mapping[str, Any]]) -> None:
    missing, no_metal, earlier = decoded[len(NAMES) :]
    assert missing["status"] in ("infeasible", "open") and missing["reason"]
    assert (missing["num_trials"], missing["trial_status"]) == (0, "")
    assert no_metal["status"] == "infeasible" and "do not balance" in no_metal["reason"]
    assert (earlier["status"], earlier["reason"]) == ("too_large", "an earlier stage's")
    assert all(row.get("structure_frac_coords") is None for row in (missing, no_metal, earlier))


def test_what_closed_is_relaxed_and_the_rest_keeps_its_status(decoded: list[Mapping[str, Any]]) -> None:
    rows = [row for row in decoded if row["sample_id"] in (1, 10, 11, 12)]
    full = [{name: row.get(name) for name in decoded[0]} for row in rows]
    relaxed = MofRelaxWork(MofRelaxConfig()).process(full)
    assert [row["relax_status"] for row in relaxed] == ["ok", "not_run", "not_run", "not_run"]
    assert [row["status"] for row in relaxed] == ["ok", *(row["status"] for row in rows[1:])]
    framework = relaxed_framework(relaxed[0])
    assert framework is not None and framework.num_atoms == relaxed[0]["num_atoms"]
    assert relaxed[0]["energy"] < relaxed[0]["initial_energy"]
    assert relaxed[0]["max_force"] <= UffRelaxConfig().force_tolerance
    assert relaxed_framework(relaxed[1]) is None
    none = MofRelaxWork(MofRelaxConfig(max_atoms=5)).process(full[:1])
    assert none[0]["relax_status"] == "not_run" and none[0]["status"] == "ok"


def test_the_blocks_that_centres_were_drawn_for_come_first(
    decoder: MofDecodeWork, frameworks: dict[str, Framework], embeddings: dict[str, np.ndarray]
) -> None:
    row = sample(0, frameworks["mof5"], embeddings)
    (looked_up,) = decoder.process([row])
    elsewhere = np.zeros_like(row["embedding"]) + 1e3
    (drawn,) = decoder.process([{**row, "embedding": elsewhere, "block_index": looked_up["block_index"]}])
    assert drawn["status"] == "ok" and drawn["block_identities"] == looked_up["block_identities"]
    assert min(drawn["block_distances"]) > 100  # from what was sampled


def test_a_chooser_takes_sampled_blocks_to_those_of_the_library(
    decoder: MofDecodeWork, frameworks: dict[str, Framework], embeddings: dict[str, np.ndarray]
) -> None:
    chooser = LibraryChooser(decoder.path, decoder.config.lookup)
    chooser.setup()
    rows = [sample(k, frameworks[name], embeddings) for k, name in enumerate(NAMES)]
    features = SampledFeatures(
        num_blocks=torch.tensor([row["num_blocks"] for row in rows]),
        embedding=torch.tensor(np.concatenate([row["embedding"] for row in rows]).reshape(-1, 8)).float(),
        is_metal=torch.tensor(np.concatenate([row["is_metal"] for row in rows])),
        metal_score=torch.zeros(sum(row["num_blocks"] for row in rows)),
        num_connections=torch.tensor(np.concatenate([row["num_connections"] for row in rows])).float(),
    )
    chosen = chooser(features)
    found = [decoder.library.identity(int(index)) for index in chosen.index]
    assert found == [block.identity for name in NAMES for block in frameworks[name].blocks]
    assert chosen.is_metal.tolist() == features.is_metal.tolist()
    assert chosen.num_connections.tolist() == features.num_connections.tolist()
    torch.testing.assert_close(chosen.embedding, features.embedding, rtol=0, atol=0.1)
