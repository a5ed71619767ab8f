"""Which run made a directory: run id, config, inputs, code and environment versions, in run.json and in every table."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import secrets
import shutil
import subprocess
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import matgen
from matgen.errors import StageError

PACKAGES = ("torch", "numpy", "ray", "pymatgen", "moyopy", "spglib", "gemmi", "smact", "chgnet", "matminer", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class StageLineage:
    """What run.json beside a stage's files says.

    `config` and `inputs` (name -> identity of what was read) decide what the files hold; the rest only tells the story.
    """

    stage: str
    run_id: str
    seed: int
    config: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    experiment: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    code_version: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    started: str = ""
    finished: str = ""
    seconds: float = 0.0
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Hash of everything that decides the content."""
        return hash_json({"stage": self.stage, "seed": self.seed, "config": self.config, "inputs": self.inputs})

    @property
    def complete(self) -> bool:
        """Whether the stage ran to its end."""
        return bool(self.finished)

    @property
    def table_metadata(self) -> dict[str, str]:
        """Key-value pairs for the metadata of every parquet file of the stage."""
        return {
            "matgen.run_id": self.run_id,
            "matgen.stage": self.stage,
            "matgen.config_hash": hash_json(self.config),
            "matgen.stage_identity": self.identity,
            "matgen.checkpoint_hash": self.inputs.get("checkpoint", ""),
            "matgen.seed": str(self.seed),
            "matgen.code_version": self.code_version,
        }


def hash_json(values: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def hash_files(paths: list[Path]) -> str:
    """Return the first 16 hex digits of the SHA-256 over names and contents of files, in sorted order.

    Raises:
        StageError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode())
        try:
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise StageError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()[:16]


def open_stage(directory: Path, lineage: StageLineage, *, overwrite: bool = False) -> StageLineage:
    """Claim a stage's directory: new, continued by the same run, or refused.

    Args:
        directory: the stage's own directory; made where absent.
        lineage: what is about to run.
        overwrite: delete what another run left there.

    Returns:
        The lineage, with versions and start time filled in, as written to run.json.

    Raises:
        StageError: the directory holds another run's results, or cannot be written.
    """
    previous = read_lineage(directory)
    if previous is not None and previous.identity != lineage.identity:
        if not overwrite:
            raise StageError(
                f"{directory} holds another run's results ({_difference(previous, lineage)}); "
                "use another --out, or --overwrite"
            )
        remove_stage(directory)
        previous = None
    elif previous is not None and overwrite:
        remove_stage(directory)
        previous = None
    elif previous is None and directory.is_dir() and any(p.name[0] != "." for p in directory.iterdir()):
        raise StageError(f"{directory} is not empty and has no run.json: not a {lineage.stage} directory of ours")
    if previous is not None and previous.complete:
        return previous
    lineage = replace(
        lineage,
        code_version=code_version(),
        versions=environment_versions(),
        started=previous.started if previous else _now(),
        seconds=previous.seconds if previous else 0.0,
    )
    write_lineage(directory, lineage)
    return lineage


def finish_stage(directory: Path, lineage: StageLineage, summary: dict[str, Any], seconds: float) -> StageLineage:
    """Mark a stage as complete, with its summary and the seconds of this invocation added to earlier ones.

    One that did a range of the shards only stays as it is: others do theirs, and a run without a range completes it.
    """
    if "shard_range" in summary:
        return lineage
    lineage = replace(lineage, finished=_now(), summary=summary, seconds=round(lineage.seconds + seconds, 3))
    write_lineage(directory, lineage)
    return lineage


def require_stage(directory: Path, stage: str, *, partial: bool = False) -> StageLineage:
    """Read the lineage of a finished stage that the next one needs.

    Args:
        directory: of that stage.
        stage: its name.
        partial: it need not be finished, for only a range of its shards is wanted.

    Raises:
        StageError: it did not run, or not to its end.
    """
    lineage = read_lineage(directory)
    if lineage is None:
        raise StageError(f"{directory} is missing: run the stage {stage!r} first")
    if not lineage.complete and not partial:
        raise StageError(f"{directory} is incomplete: run the stage {stage!r} again, it goes on where it stopped")
    return lineage


def read_lineage(directory: Path) -> StageLineage | None:
    """Read run.json of a stage's directory; None where there is none.

    Raises:
        StageError: run.json is not one of ours.
    """
    path = directory / "run.json"
    if not path.is_file():
        return None
    try:
        return StageLineage(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise StageError(f"{path} cannot be read: {error}") from error


def write_lineage(directory: Path, lineage: StageLineage) -> None:
    """Write run.json aside and rename it.

    Raises:
        StageError: the directory cannot be written.
    """
    write_text(directory / "run.json", json.dumps(asdict(lineage), indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file aside and rename it, so that it is whole or absent.

    Raises:
        StageError: it cannot be written; the message has the path and the system's reason.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")  # nodes share process ids
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StageError(f"cannot write {path}: {error.strerror or error}") from error


def remove_stage(directory: Path) -> None:
    """Delete a stage's directory, which must be one of ours (it has a run.json)."""
    if (directory / "run.json").is_file():
        shutil.rmtree(directory)


def run_id(out_dir: Path, name: str) -> str:
    """Return the id of the run in a directory: the one its run.json says, or a new one written there."""
    path = out_dir / "run.json"
    if path.is_file():
        try:
            return str(json.loads(path.read_text())["run_id"])
        except (ValueError, KeyError, TypeError) as error:
            raise StageError(f"{path} is not a run.json of ours") from error
    new = f"{name}-{datetime.datetime.now(datetime.UTC):%Y%m%d}-{secrets.token_hex(3)}"
    aside = out_dir / f".run-{secrets.token_hex(4)}.tmp"
    write_text(aside, json.dumps({"run_id": new, "experiment": name, "created": _now()}, indent=1) + "\n")
    try:
        os.link(aside, path)  # of several jobs that begin at once, one names the run
    except FileExistsError:
        return run_id(out_dir, name)
    except OSError:  # a file system without hard links
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return new


def code_version() -> str:
    """Return `git describe` of the checkout that this code runs from, or the package's version outside one."""
    root = Path(matgen.__file__).resolve().parent.parent
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--tags"]
        try:
            described = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return matgen.__version__
        return f"{matgen.__version__}+{described}"
    return matgen.__version__


def environment_versions() -> dict[str, str]:
    """Return versions of Python, the machine and the packages that results depend on; absent ones are left out."""
    versions = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _difference(old: StageLineage, new: StageLineage) -> str:
    """Name up to three keys in which two runs of a stage differ."""
    before = _flat({"seed": old.seed, **old.config, "input": old.inputs})
    after = _flat({"seed": new.seed, **new.config, "input": new.inputs})
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    said = [f"{key} {before.get(key)} there, {after.get(key)} here" for key in keys[:3]]
    return "; ".join(said) or f"stage {old.stage!r} there, {new.stage!r} here"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
