"""The page about frameworks: counts, escapes, pictures, what is missing."""

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mof_report_runs import NAMES, make_mof_run, make_reconstruction, real_frameworks
from report_runs import NASTY, make_run
from test_report import Outline

from matgen.crystal.cif import parse_cif
from matgen.errors import StageError
from matgen.evaluation.report import ReportConfig, build_report
from matgen.evaluation.report.mof_gallery import choose_frameworks
from matgen.evaluation.report.mof_picture import draw_atoms, draw_net, whole_blocks
from matgen.evaluation.report.mof_yields import checks_html, framework_failures, framework_steps
from matgen.evaluation.report.reading import read_runs


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_mof_run(tmp_path_factory.mktemp("mof_report") / "run")


@pytest.fixture(scope="module")
def page(run) -> str:
    return build_report(run, run.parent / "report.html").read_text()


def without(run: Path, tmp_path: Path, *folders: str) -> Path:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for folder in folders:
        shutil.rmtree(copy / folder)
    return copy


def test_page_is_whole_escaped_and_needs_no_network(page):
    outline = Outline(page)
    assert outline.open == [] and len(outline.scripts) == 2
    assert all(link.startswith(("#", "data:")) for link in outline.links)
    assert NASTY not in page and "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in page
    for key in ("yields", "frameworks", "scores", "distributions", "reconstruction", "training", "provenance"):
        assert f'<section id="{key}">' in page
    assert "not run" not in re.sub(r"<script.*?</script>", "", page[page.index('id="distributions"') :], flags=re.S)


def test_yields_are_counts_over_statuses(run):
    (population,) = read_runs([run]).populations
    steps = {step.name: step for step in framework_steps(population)}
    # five real ones, a twin of the first, a clash that relaxation resolved, an open one, one that is not finite
    assert {name: step.count for name, step in steps.items()} == {
        "drawn": 9, "decodable": 8, "feasible": 8, "assembled": 7, "relaxed": 5, "valid": 3, "novel": 1, "unique": 1,
    }  # fmt: skip
    assert "1 that came so far were left out" in steps["relaxed"].meaning
    assert "9 frameworks of 7 samples were put on trial" in steps["assembled"].meaning
    assert "of 6 the first stood it" in steps["assembled"].meaning
    found = {(stage, word): count for stage, word, count, _ in framework_failures(population)}
    assert found == {("sample", "non_finite"): 1, ("decode", "open"): 1, ("relax", "collapsed"): 1}
    assert re.search(r"<td>has carbon</td><td class=\"num\">2 ", checks_html(population))


def test_yields_before_evaluation_are_those_of_the_stages(run, tmp_path):
    (population,) = read_runs([without(run, tmp_path, "scores", "relaxed")]).populations
    steps = {step.name: step.count for step in framework_steps(population)}
    assert steps == {
        "drawn": 9, "decodable": 8, "feasible": 8, "assembled": 6, "relaxed": None, "valid": None, "novel": None,
        "unique": None,
    }  # fmt: skip
    found = {(stage, word): count for stage, word, count, _ in framework_failures(population)}
    assert found[("decode", "clash")] == 1  # nothing was there to resolve it


def test_gallery_follows_its_rule(run):
    (population,) = read_runs([run]).populations
    chosen = choose_frameworks(population, 6)
    assert [reached for _, reached in chosen] == [
        "valid", "valid", "relaxed, not valid", "assembled", "assembled",
    ]  # fmt: skip
    assert [i for i, _ in chosen] == [0, 4, 1, 2, 3]  # 5 is the twin of 0, 6 that of 1
    assert choose_frameworks(population, 2) == chosen[:2]


def test_blocks_are_in_one_piece_and_keep_every_bond_length():
    for framework in real_frameworks():
        structure, bonds = framework.to_structure()
        block = np.repeat(np.arange(framework.num_blocks), [b.num_atoms for b in framework.blocks])
        metal = np.array([b.role != "linker" for b in framework.blocks])
        whole = whole_blocks(structure, bonds, block, metal)
        before = np.linalg.norm(bonds.vectors(structure), axis=1)
        np.testing.assert_allclose(np.linalg.norm(whole.bonds.vectors(whole.structure), axis=1), before, atol=1e-9)
        inner = block[bonds.first] == block[bonds.second]
        assert not whole.bonds.image[inner].any()
        assert (whole.net.centres > -0.01).all() and (whole.net.centres < 1.0).all()
        for k, given in enumerate(framework.blocks):  # the same shape: all distances within a block
            cart = whole.structure.frac_coords[block == k] @ structure.lattice
            distances = np.linalg.norm(cart[:, None] - cart, axis=-1)
            own = np.linalg.norm(given.cart_coords[:, None] - given.cart_coords, axis=-1)
            np.testing.assert_allclose(distances, own, atol=1e-5)
        edges, images, _ = framework.edges()
        assert len(whole.net.edges) == len(np.unique(np.concatenate([edges, images], axis=1), axis=0))


def test_pictures_hold_every_ball_and_every_join():
    framework = real_frameworks()[0]
    structure, bonds = framework.to_structure()
    block = np.repeat(np.arange(framework.num_blocks), [b.num_atoms for b in framework.blocks])
    whole = whole_blocks(structure, bonds, block, np.array([b.role != "linker" for b in framework.blocks]))
    net, atoms = draw_net(structure.lattice, whole.net, "net"), draw_atoms(whole, "atoms")
    assert net.count("<circle") == framework.num_blocks == 8
    leaving = int(whole.net.images.any(1).sum())
    assert net.count('class="link"') == len(whole.net.edges) + leaving
    assert atoms.count("<circle") == structure.num_atoms
    assert atoms.count('class="bond"') == bonds.num_bonds + int(whole.bonds.image.any(1).sum())


def test_viewer_and_cif_hold_the_framework(page):
    data = json.loads(Outline(page).scripts[0])["crystals"]
    indices = [int(i) for i in re.findall(r'data-index="(\d+)"', page)]
    assert indices == sorted([*range(len(data)), *range(len(data))])  # the blocks and the atoms of each
    texts = re.findall(r"data:chemical/x-cif;base64,([A-Za-z0-9+/=]+)", page)
    for entry, text in zip(data, texts, strict=True):
        read = parse_cif(base64.b64decode(text).decode())
        assert sorted(read.atomic_numbers) == sorted(entry["numbers"])
        assert len(entry["blocks"]["coords"]) == len(entry["blocks"]["colors"]) == len(entry["blocks"]["radii"])
        assert max(max(bond[:2]) for bond in entry["bonds"]) < len(entry["numbers"])
    mof5 = data[0]
    assert len(mof5["numbers"]) == 106 and len(mof5["blocks"]["coords"]) == 8
    # the relaxed cell is shown: 1 % longer
    expected = 1.01 * np.linalg.norm(real_frameworks()[0].lattice, axis=1)
    np.testing.assert_allclose(np.linalg.norm(mof5["lattice"], axis=1), expected, rtol=1e-4)


def test_reconstruction_table(run, tmp_path):
    make_reconstruction(tmp_path / "alone")
    for directory in (run, tmp_path / "alone"):
        text = build_report(directory, tmp_path / "r.html").read_text()
        row = text[text.index('<table class="reconstruction">') :]
        assert [float(x) for x in re.findall(r"<b>([\d.]+) %</b>", row)[:4]] == pytest.approx([75, 50, 66.7, 25])
        assert Outline(text).open == []


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("records", "qmof"),
        ("block_encoder", "no stage train_blocks"),
        ("checkpoint", "no stage train of"),
        ("block_scores", "Retrieval of held-out blocks: not run"),
        ("samples", "not run"),
        ("structures", "the stage decode was not run"),
        ("relaxed", "the stage of relax was not run"),
        ("scores", "no set of samples has been scored"),
        ("reconstruct", "holds no reconstruction"),
    ],
)
def test_missing_stage_is_said_to_be_so(run, tmp_path, folder, words):
    text = build_report(without(run, tmp_path, folder), tmp_path / "r.html").read_text()
    assert Outline(text).open == []
    if folder not in ("records", "samples"):
        assert words in text


def test_samples_of_the_shipped_checkpoint_that_were_not_drawn_are_said_to_be_so(run, page, tmp_path):
    copy = without(run, tmp_path)
    record = json.loads((copy / "records" / "run.json").read_text())
    record["experiment"]["stages"] = [*record["experiment"]["stages"], "shipped"]
    (copy / "records" / "run.json").write_text(json.dumps(record))
    words = "no samples of a shipped checkpoint are here"
    assert words in build_report(copy, tmp_path / "r.html").read_text() and words not in page
    for stage in ("samples", "structures"):
        shutil.copytree(copy / stage, copy / "shipped" / stage)
    text = build_report(copy, tmp_path / "r.html").read_text()
    assert words not in text and text.count('<table class="waterfall">') == 2 and "shipped checkpoint" in text


def test_number_of_frameworks_is_a_setting(run, tmp_path):
    config = ReportConfig(num_frameworks=2, num_failures=1)
    text = build_report(run, tmp_path / "r.html", config=config).read_text()
    assert text.count('class="crystal framework"') == 2 and text.count('class="crystal failed"') == 1


def test_training_shows_every_loss_that_is_not_zero(page):
    training = page[page.index('id="training"') : page.index('id="provenance"')]
    titles = re.findall(r"<h3>(Loss, [^<]+|Throughput[^<]+)</h3>", training)
    assert titles == [
        "Loss, total", "Loss, contrast", "Loss, diameter", "Throughput of training",
        "Loss, total", "Loss, coords", "Loss, lattice", "Loss, kl", "Throughput of training",
    ]  # fmt: skip
    assert "found as nearest" in training and "66.7 %" in training
    assert "building blocks/s" in training and "frameworks/s" in training


def test_crystals_and_frameworks_have_pages_that_know_of_each_other(run, tmp_path):
    crystals = make_run(tmp_path / "both")
    shutil.copytree(run, crystals / "mofs")
    build_report(crystals / "mofs", crystals / "mofs" / "report.html")
    first = build_report(crystals, crystals / "report.html").read_text()
    second = build_report(crystals / "mofs", crystals / "mofs" / "report.html").read_text()
    assert 'href="mofs/report.html"' in first and 'href="../report.html"' in second
    assert first.count('<table class="waterfall">') == 1  # frameworks are no set of crystals
    with pytest.raises(StageError, match="do not go on one page"):
        build_report([crystals, run], tmp_path / "r.html")


def test_names_are_those_of_the_data(page):
    assert len(NAMES) == len(real_frameworks()) and "5 of 6 structures of the data set became records" in page
