"""Last words: read back from processes that really died."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.notes import open_note, read_note


def die(path: Path, last_act: str) -> None:
    script = f"""
import ctypes, os, resource, signal, sys, time
from pathlib import Path
from cluster.notes import open_note
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with open_note(Path(sys.argv[1])) as note:
    note.at(10, 11, None)
    note.at(11, 13, 0.2 if {last_act!r} == "time.sleep(60)" else None)
    {last_act}
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=Path(__file__).parents[3], timeout=120)
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("last_act", "timed_out", "fault"),
    [
        ("ctypes.string_at(0)", False, "Segmentation fault"),
        ("os.abort()", False, "Aborted"),
        ("time.sleep(60)", True, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", False, ""),
    ],
)
def test_the_dead_say_where_they_were(tmp_path: Path, last_act: str, timed_out: bool, fault: str) -> None:
    die(tmp_path / "note", last_act)
    words = read_note(tmp_path / "note")
    assert words is not None
    assert (words.start, words.stop, words.timed_out, words.fault) == (11, 13, timed_out, fault)
    assert ("line" in words.place) == bool(timed_out or fault)


def test_the_living_leave_nothing(tmp_path: Path) -> None:
    with open_note(tmp_path / "note") as note:
        note.at(0, 1, 60.0)
        words = read_note(tmp_path / "note")
        assert words is not None and (words.start, words.stop) == (0, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "half", "1 x\n"])
def test_a_torn_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "note").write_text(text)
    assert read_note(tmp_path / "note") is None
    assert read_note(tmp_path / "absent") is None
