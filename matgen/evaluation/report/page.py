"""Writes the page about some runs whole or not at all."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from matgen.errors import StageError
from matgen.evaluation.report.crystal_page import crystal_page
from matgen.evaluation.report.layout import FRAMEWORKS
from matgen.evaluation.report.mof_page import mof_page
from matgen.evaluation.report.reading import read_runs
from matgen.evaluation.report.shell import ReportConfig, page_html

__all__ = ["ReportConfig", "build_report"]


def build_report(
    run_dirs: Path | Sequence[Path],
    out: Path,
    *,
    names: Sequence[str] | None = None,
    config: ReportConfig | None = None,
) -> Path:
    """Write one self-contained page about one or several runs; it opens from a file, without a network.

    Args:
        run_dirs: directories of runs, as `matgen run --out` makes them, all of crystals or all of frameworks. A stage
            that was not run is said to be so.
        out: the page; its folder is made where absent.
        names: what to call each run; default: by its folder.
        config: settings.

    Returns:
        `out`.

    Raises:
        StageError: a directory is missing or holds no stage, or the page cannot be written.
        SourceError: a file of a stage is corrupt.
    """
    directories = [run_dirs] if isinstance(run_dirs, Path) else list(run_dirs)
    if not directories:
        raise StageError("a report needs at least one run")
    contents = read_runs(directories, names)
    make = mof_page if contents.layout is FRAMEWORKS else crystal_page
    html = page_html(contents, make(contents, config or ReportConfig()), out.resolve().parent)
    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(html, encoding="utf-8")
        aside.replace(out)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise StageError(f"cannot write {out}: {error.strerror or error}") from error
    return out
