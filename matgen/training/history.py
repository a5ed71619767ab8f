"""The history of a run: one JSON line per event, cut back to the checkpoint when the run resumes."""

import json
import os
from pathlib import Path
from typing import Any

TIMING = ("crystals_per_second", "elapsed_s")
"""Keys that differ between two runs that are otherwise the same."""


def read_history(file: Path | str) -> list[dict[str, Any]]:
    """Return the lines of a history that can be read; a line that a crash cut short is left out."""
    path = Path(file)
    lines = path.read_text().splitlines() if path.exists() else []
    return [row for row in map(_row, lines) if row is not None]


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "step" in row else None


class History:
    """Appends to history.jsonl."""

    def __init__(self, file: Path, step: int) -> None:
        """Open a history at a step of its run.

        Args:
            file: history.jsonl.
            step: steps done; lines of later steps are removed.
        """
        rows = [row for row in read_history(file) if row["step"] <= step]
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.partial")
        aside.write_text("".join(json.dumps(row) + "\n" for row in rows))
        aside.replace(file)
        self._file = file.open("a", buffering=1)

    def append(self, row: dict[str, Any]) -> None:
        """Add a line."""
        self._file.write(json.dumps(row) + "\n")

    def sync(self) -> None:
        """Bring what was written to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
