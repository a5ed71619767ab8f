"""Data sets by name: the embedded prototypes, a local folder, and downloads against a local server."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from matgen.errors import DownloadError, SourceError
from matgen.sources import named
from matgen.sources.download import fetch
from matgen.sources.source import SourceConfig, open_source
from tests.unit.sources.test_source_tables import write_csv


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A web server of its own folder, and nothing but it to download from."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MATGEN_DATA", raising=False)
    monkeypatch.setenv("MATGEN_CACHE", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}", folder
        httpd.shutdown()


def test_prototypes_are_the_embedded_set() -> None:
    source = open_source("aflow")
    rows = list(source)
    assert len(rows) == len(source) == 288
    assert len({row.id for row in rows}) == 288
    assert sum(row.status == "ok" for row in rows) == 287
    californium = next(row for row in rows if row.status != "ok")
    assert californium.status == "unsupported_element"
    assert "98" in californium.reason
    assert 20 <= sum(row.split == "val" for row in rows) <= 60
    cinnabar = next(row for row in rows if row.properties.get("mineral") == "Cinnabar")
    assert cinnabar.structure is not None
    assert cinnabar.structure.formula == "HgS"
    assert [row.split for row in rows] == [row.split for row in open_source("AFLOW")]


def test_prototypes_with_one_label_share_a_split() -> None:
    splits: dict[str, set[str | None]] = {}
    for row in open_source("aflow"):
        splits.setdefault(row.id.split("#")[0], set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())


def test_local_folder_by_name(tmp_path: Path, cifs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "mp_20_train.csv", ["material_id", "cif"], [["a", cifs[0]], ["b", cifs[1]]])
    (tmp_path / "mp_20").mkdir()
    write_csv(tmp_path / "mp_20" / "test.csv", ["material_id", "cif"], [["c", cifs[2]]])
    source = open_source("MP-20", tmp_path)
    assert [(row.id, row.split) for row in source] == [("a", "train"), ("b", "train"), ("c", "test")]
    monkeypatch.setenv("MATGEN_DATA", str(tmp_path))
    assert [row.id for row in open_source("mp_20", splits=["test"])] == ["c"]
    with pytest.raises(SourceError, match=r"has mp_20 train, test, but not val"):
        open_source("mp_20", splits=["val"])
    with pytest.raises(SourceError, match="unknown split"):
        open_source("mp_20", splits=["dev"])
    with pytest.raises(SourceError, match="no such folder"):
        open_source("mp_20", tmp_path / "absent")


def test_download_is_verified_and_kept(
    server: tuple[str, Path], cifs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = server
    for split in ("train", "val", "test"):
        write_csv(folder / f"{split}.csv", ["material_id", "cif"], [[f"{split}-{i}", cifs[i]] for i in range(3)])
    monkeypatch.setitem(named.DATA_SETS, "perov_5", named.DataSet(url))
    assert [row.split for row in open_source("perov_5")] == ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    for split in ("train", "val", "test"):
        (folder / f"{split}.csv").unlink()
    assert len(open_source("perov_5")) == 9  # from the cache
    cached = named.cache_dir() / "perov_5" / "val.csv"
    cached.write_bytes(cached.read_bytes() + b"\n")
    with pytest.raises(DownloadError, match=r"SHA-256 is .* expected .* delete it"):
        open_source("perov_5")


def test_a_published_checksum_is_held(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    (folder / "x.csv").write_text("id,cif\na,b\n")
    target = tmp_path / "keep" / "x.csv"
    with pytest.raises(DownloadError, match=r"SHA-256 is [0-9a-f]{64}, expected 0000"):
        fetch(f"{url}/x.csv", target, sha256="0" * 64)
    assert list(target.parent.iterdir()) == []
    good = hashlib.sha256(b"id,cif\na,b\n").hexdigest()
    assert fetch(f"{url}/x.csv", target, sha256=good) == target
    assert sorted(path.name for path in target.parent.iterdir()) == ["x.csv", "x.csv.sha256"]


def test_foreign_and_missing_files_are_refused(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    (folder / "login.csv").write_text("<html><body>please sign in</body></html>")
    (folder / "empty.csv").write_text("")
    for name, words in (("login.csv", "first line"), ("empty.csv", "incomplete"), ("absent.csv", "404")):
        with pytest.raises(DownloadError, match=words) as caught:
            fetch(f"{url}/{name}", tmp_path / "keep" / name)
        assert url in str(caught.value)
        assert list((tmp_path / "keep").iterdir()) == []


def test_a_file_that_breaks_off_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"id,cif\n")

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    with http.server.HTTPServer(("127.0.0.1", 0), Short) as httpd:
        threading.Thread(target=httpd.handle_request, daemon=True).start()
        with pytest.raises(DownloadError):
            fetch(f"http://127.0.0.1:{httpd.server_address[1]}/x.csv", tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MATGEN_DATA", raising=False)
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setenv("MATGEN_CACHE", str(tmp_path))
    monkeypatch.setitem(named.DATA_SETS, "mpts_52", named.DataSet("http://127.0.0.1:9/none"))
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/none/train\.csv.*--data or MATGEN_DATA") as caught:
        open_source("mpts_52")
    assert "\n" not in str(caught.value)


@pytest.mark.data
def test_all_of_mp_20_val_is_read_without_a_failure(data_dir: Path) -> None:
    source = open_source("mp_20", data_dir, splits=["val"], config=SourceConfig(min_distance=0.0))
    rows = list(source)
    assert len(rows) == len(source) == 8736
    assert [row.reason for row in rows if row.status != "ok"] == []
    assert {row.split for row in rows} == {"val"}
    assert len({row.id for row in rows}) == 8736


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "count"), [("mp_20", 8736), ("perov_5", 3787), ("carbon_24", 2032), ("mpts_52", 5000)]
)
def test_heads_of_the_named_sets_pass_every_limit(data_dir: Path, name: str, count: int) -> None:
    source = open_source(name, data_dir, splits=["val"])
    assert len(source) == count
    rows = list(source.read_shard(source.shards(300)[0]))
    assert [row.reason for row in rows if row.status != "ok"] == []
    assert {row.split for row in rows} == {"val"}
