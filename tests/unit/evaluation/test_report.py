"""The page about a run: counts, escapes, what is missing, and files that cannot be read."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from report_runs import NASTY, make_comparison_run, make_run

from matgen.crystal.cif import parse_cif
from matgen.errors import SourceError, StageError
from matgen.evaluation.report import ReportConfig, build_report
from matgen.evaluation.report.gallery import choose, make_gallery
from matgen.evaluation.report.reading import read_rows, read_runs
from matgen.evaluation.report.yields import failures, waterfall_steps

VOID = {"meta", "link", "input", "br", "path", "rect", "line", "circle", "stop"}


class Outline(HTMLParser):
    """Checks that elements close in order; collects scripts and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        self.links += [value for key, value in names.items() if key in ("src", "href") and value is not None]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(run) -> str:
    return build_report(run, run.parent / "report.html").read_text()


def copy_of(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_page_is_whole_and_needs_no_network(page):
    outline = Outline(page)
    assert outline.open == []
    assert all(link.startswith(("#", "data:")) for link in outline.links)
    assert not re.search(r"url\((?!#)", page) and "@import" not in page
    assert len(page) < 1_500_000


def test_text_from_data_is_escaped(page):
    assert NASTY not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in page
    assert len(Outline(page).scripts) == 2  # the viewer's data and the page's own code


def test_yields_are_counts_over_status(run):
    (population,) = read_runs([run]).populations
    counts = {step.name: step.count for step in waterfall_steps(population)}
    rows = read_rows(run / "structures", range(100))
    assert counts["drawn"] == len(rows) == 14
    assert counts["sampled"] == sum(row["status"] != "non_finite" for row in rows.values()) == 13
    assert counts["resolved"] == sum(row["status"] == "ok" for row in rows.values()) == 12
    assert counts["relaxed"] == 4
    assert counts["valid"] >= counts["unique"] >= counts["novel"] > 0
    assert counts["novel"] < counts["unique"]  # half of them are in the training set
    assert counts["S.U.N."] == pytest.approx(population.summary["sun"].value * 14)


def test_failures_stand_at_the_stage_that_has_them_first(run):
    (population,) = read_runs([run]).populations
    found = {(stage, word): count for stage, word, count, _ in failures(population)}
    assert found == {("sample", "non_finite"): 1, ("decode", "overlap"): 1}


def test_gallery_follows_its_rule(run):
    (population,) = read_runs([run]).populations
    chosen, rule = choose(population, 6)
    assert "lowest energy above hull" in rule
    valid = dict(zip(population.scores["sample_id"].to_pylist(), population.scores["valid"].to_pylist()))
    assert all(valid[i] for i in chosen)
    by_energy = [i for i in (3, 2, 1, 0) if valid[i]]  # energies fall with sample_id
    assert chosen[: len(by_energy)] == by_energy
    assert chosen[len(by_energy) :] == sorted(i for i in valid if valid[i] and i > 3)[: 6 - len(by_energy)]


def test_downloaded_cif_is_the_crystal(run):
    (population,) = read_runs([run]).populations
    gallery, _ = make_gallery(population, 5, 0)
    texts = re.findall(r"data:chemical/x-cif;base64,([A-Za-z0-9+/=]+)", gallery.html)
    ids = [int(name) for name in re.findall(r"-(\d{8})\.cif", gallery.html)]
    rows = read_rows(run / "structures", ids)
    assert len(texts) == len(ids) == 5
    for text, sample_id in zip(texts, ids):
        read = parse_cif(base64.b64decode(text).decode())
        row = rows[sample_id]
        shown = np.reshape(row["structure_frac_coords"], (-1, 3))
        again = type(read)(np.reshape(row["lattice"], (3, 3)), shown, np.array(row["structure_atomic_numbers"]))
        assert StructureMatcher().fit(read.to_pymatgen(), again.to_pymatgen())


def test_viewer_is_given_every_crystal_of_the_gallery(page):
    data = json.loads(Outline(page).scripts[0])
    indices = [int(i) for i in re.findall(r'<button class="picture" data-index="(\d+)"', page)]
    assert indices == list(range(len(data["crystals"]))) and indices
    for crystal in data["crystals"]:
        assert len(crystal["coords"]) == len(crystal["numbers"])
        assert all(str(z) in data["colors"] and str(z) in data["radii"] for z in crystal["numbers"])


def test_number_of_crystals_is_a_setting(run, tmp_path):
    text = build_report(run, tmp_path / "r.html", config=ReportConfig(num_crystals=2, num_failures=1)).read_text()
    assert text.count('class="crystal"') == 2 and text.count('class="crystal failed"') == 1


@pytest.mark.parametrize("folder", ["records", "checkpoint", "samples", "structures", "relaxed", "scores"])
def test_missing_stage_is_said_to_be_so(run, tmp_path, folder):
    copy = copy_of(run, tmp_path)
    shutil.rmtree(copy / folder)
    text = build_report(copy, tmp_path / "r.html").read_text()
    assert Outline(text).open == []
    expected = {
        "checkpoint": "no stage train", "structures": "the stage decode was not run",
        "relaxed": "the stage relax was not run", "scores": "no set of samples has been scored",
    }  # fmt: skip
    assert expected.get(folder, "not run") in text


def test_run_that_has_only_records(run, tmp_path):
    shutil.copytree(run / "records", tmp_path / "run" / "records")
    text = build_report(tmp_path / "run", tmp_path / "r.html").read_text()
    assert Outline(text).open == [] and "no samples were drawn" in text


def test_samples_that_all_failed(run, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    copy = copy_of(run, tmp_path)
    for folder in ("relaxed", "scores"):
        shutil.rmtree(copy / folder)
    path = copy / "structures" / "part-000000.parquet"
    table = pq.read_table(path)
    failed = pa.array(["overlap"] * table.num_rows)
    pq.write_table(table.set_column(table.column_names.index("status"), "status", failed), path)
    text = build_report(copy, tmp_path / "r.html").read_text()
    assert Outline(text).open == [] and "no crystal to show" in text
    pq.write_table(table.slice(0, 0), path)
    assert Outline(build_report(copy, tmp_path / "r.html").read_text()).open == []


def test_two_modes_stand_beside_each_other(tmp_path):
    run = make_comparison_run(tmp_path / "run", 6)
    contents = read_runs([run])
    assert [population.name for population in contents.populations] == ["free", "from templates"]
    text = build_report(run, tmp_path / "r.html").read_text()
    assert Outline(text).open == [] and 'id="comparison"' in text
    assert text.count('<table class="waterfall">') == 2


def test_several_runs_on_one_page(run, tmp_path):
    copy = copy_of(run, tmp_path)
    text = build_report([run, copy], tmp_path / "r.html", names=["first & best", "second"]).read_text()
    assert Outline(text).open == [] and "first &amp; best" in text and text.count('<table class="waterfall">') == 2


def test_page_of_the_same_run_is_the_same(run, page, tmp_path):
    assert build_report(run, tmp_path / "r.html").read_text() == page


def test_directory_without_stages_is_refused(tmp_path):
    with pytest.raises(StageError, match="holds no stage"):
        build_report(tmp_path, tmp_path / "r.html")
    with pytest.raises(StageError, match="no such directory"):
        build_report(tmp_path / "nowhere", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_corrupt_files_are_named_and_leave_no_page(run, tmp_path):
    copy = copy_of(run, tmp_path)
    (copy / "samples" / "part-000000.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(SourceError, match=r"part-000000\.parquet"):
        build_report(copy, tmp_path / "r.html")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_page_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match="cannot write"):
        build_report(run, tmp_path / "file" / "r.html")
