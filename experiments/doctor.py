"""`matgen doctor`: what this machine has and lacks, and what to do about it."""

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, "ok", "missing" or "warning", what was found, and what to do."""

    what: str
    state: str
    found: str
    advice: str = ""


EXTRAS = {
    "chgnet": ("relax", "relaxation, energies and the hull"),
    "matminer": ("fingerprints", "coverage metrics"),
    "pyxtal": ("tables", "the cross-check of the symmetry tables"),
}
PACKAGES = ("ray", "pymatgen", "moyopy", "spglib", "smact", "wandb")


def doctor_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Look at everything; the summary has one entry for each finding."""
    from experiments.cli import say

    findings = [*_machine(), *_torch(), *_packages(), *_services(), _data(arguments.data), _checkpoint()]
    marks = {"ok": "ok     ", "missing": "missing", "warning": "warning"}
    for finding in findings:
        say(arguments, f"{marks[finding.state]}  {finding.what:20s} {finding.found}")
        if finding.advice:
            say(arguments, f"{'':30s} -> {finding.advice}")
    return {"findings": [vars(finding) for finding in findings]}


def _machine() -> list[Finding]:
    import psutil

    from cluster.run import available_cpus

    memory, disk = psutil.virtual_memory(), shutil.disk_usage(Path.cwd())
    return [
        Finding("python", "ok", f"{platform.python_version()} at {sys.executable}"),
        Finding(
            "CPU",
            "ok",
            f"{available_cpus()} of {os.cpu_count()} CPUs usable, {platform.processor() or platform.machine()}",
        ),
        _enough("memory", memory.available / 2**30, 4, "training and sampling want 4 GiB free: fewer --workers"),
        _enough("disk here", disk.free / 2**30, 5, "a run of 10,000 samples takes about 1 GB: choose --out elsewhere"),
        _enough(
            "shared memory",
            _shared_memory(),
            0.5,
            "Ray's object store lives in /dev/shm: enlarge it (docker: --shm-size)",
        ),
    ]


def _enough(what: str, gib: float, least: float, advice: str) -> Finding:
    return Finding(what, "ok" if gib >= least else "warning", f"{gib:.1f} GiB free", "" if gib >= least else advice)


def _shared_memory() -> float:
    path = Path("/dev/shm")
    return shutil.disk_usage(path).free / 2**30 if path.is_dir() else 0.0


def _torch() -> list[Finding]:
    import torch

    setting = os.environ.get("OMP_NUM_THREADS", "not set")
    threads = f"torch {torch.__version__}, {torch.get_num_threads()} threads (OMP_NUM_THREADS={setting})"
    findings = [Finding("torch", "ok", threads)]
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        findings.append(Finding("GPU", "ok", names))
    else:
        advice = "everything runs on the CPU; for a GPU install torch's CUDA build: https://pytorch.org"
        findings.append(Finding("GPU", "missing", "none that torch can use", advice))
    return findings


def _packages() -> list[Finding]:
    findings = [_package(name, "pip install matgen", "") for name in PACKAGES]
    for name, (extra, purpose) in EXTRAS.items():
        findings.append(_package(name, f"pip install 'matgen[{extra}]'", f"for {purpose}"))
    return findings


def _package(name: str, advice: str, purpose: str) -> Finding:
    try:
        return Finding(name, "ok", f"{importlib.metadata.version(name)} {purpose}".strip())
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", f"not installed {purpose}".strip(), advice)


def _services() -> list[Finding]:
    address = os.environ.get("RAY_ADDRESS")
    ray = Finding(
        "Ray cluster", "ok", f"RAY_ADDRESS={address}" if address else "none: a local one is started when needed"
    )
    found = [name for name in ("sbatch", "srun", "squeue", "scontrol") if shutil.which(name)]
    if len(found) == 4:
        slurm = Finding("Slurm", "ok", "sbatch, srun, squeue, scontrol")
    else:
        slurm = Finding("Slurm", "missing", "no sbatch, srun, squeue and scontrol here", "needed on clusters only")
    mode = os.environ.get("WANDB_MODE", "offline")
    advice = "upload later with: wandb sync OUT/wandb/offline-run-*" if mode == "offline" else ""
    return [ray, slurm, Finding("W&B mode", "ok", f"{mode} (WANDB_MODE)", advice)]


def _data(option: Path | None) -> Finding:
    named = option or (Path(os.environ["MATGEN_DATA"]) if os.environ.get("MATGEN_DATA") else None)
    advice = (
        "set MATGEN_DATA (or --data) to a folder with mp_20_train.parquet or .csv and so on; else they are downloaded"
    )
    if named is None:
        return Finding("data", "missing", "MATGEN_DATA is not set", advice)
    if not named.is_dir():
        return Finding("data", "warning", f"{named}: no such folder", advice)
    tables = sorted(path.name for path in named.iterdir() if path.suffix in (".csv", ".parquet"))
    return Finding(
        "data", "ok" if tables else "warning", f"{named}: {', '.join(tables) or 'no tables'}", "" if tables else advice
    )


def _checkpoint() -> Finding:
    from cluster.sample import SHIPPED_CHECKPOINT

    if SHIPPED_CHECKPOINT.is_dir():
        return Finding("checkpoint", "ok", f"{SHIPPED_CHECKPOINT.name} is shipped")
    return Finding(
        "checkpoint", "missing", "none is shipped", "train one: matgen run symmcd_mp20; then --checkpoint DIR"
    )
