"""The planner held against a real campaign on a Slurm of this machine (root, and scripts/install_slurm.sh).

python tests/benchmarks/bench_plan.py --measured 32 --count 64 --nodes 2

A campaign of frameworks from the shipped checkpoint is measured on one actor; the planner predicts a larger one on
several nodes of one CPU each; sbatch slurm/generate_mofs.sh runs it. Stages are compared one by one.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "integration"))

CHECKPOINT = ROOT / "experiments/checkpoints/mofdiff_qmof"
CHEAP = ["--checkpoint", str(CHECKPOINT), "--set", "decode.lookup.num_tries=1", "--set", "evaluate.reference_limit=0"]
CHEAP += ["--set", "decode.lookup.num_simple=0", "--set", "decode.lookup.num_passes=1"]
CHEAP += ["--set", "decode.assemble.trials=0"]
CHEAP += ["--set", "preprocess.limit=60", "--set", "sample.shard_size=16", "--set", "sample.batch_size=16"]


def matgen(*words: str) -> dict[str, Any]:
    """Run a command; return its summary."""
    command = [sys.executable, "-m", "experiments", *words, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def seconds_of(out: Path, stage: str) -> float:
    """Time that a stage of a run took."""
    return float(json.loads((out / stage / "run.json").read_text())["seconds"])


def main() -> None:
    """Measure, predict, run, compare."""
    from slurm_cluster import SlurmCluster, why_not

    from cluster.run import DIRECTORIES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=int, default=32, help="samples of the campaign that is measured")
    parser.add_argument("--count", type=int, default=64, help="samples of the one that is predicted")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder that is kept, and gone on with (default: a temporary one)")
    arguments = parser.parse_args()
    if reason := why_not():
        raise SystemExit(reason)
    base = arguments.out or Path(tempfile.mkdtemp(prefix="bench-plan-", dir=ROOT.parent))
    base.chmod(0o755)  # munge runs as another user
    small, large = base / "small", base / "large"
    stages = ("sample", "decode", "relax", "evaluate")
    matgen("run", "mofdiff_demo", "preprocess", *stages, "--out", str(small), "--workers", "1", *CHEAP,
           "--count", str(arguments.measured))  # fmt: skip
    words = ("plan", str(small), "--count", str(arguments.count), "--nodes", str(arguments.nodes), "--cpus", "1")
    plan = matgen(*words, "--shard-size", "16")["plans"][0]
    matgen("run", "mofdiff_demo", "preprocess", "--out", str(large), "--workers", "1", *CHEAP)
    (base / "shared").mkdir(exist_ok=True)
    slurm = SlurmCluster.start(base / "shared", nodes=arguments.nodes, cpus=1)
    try:
        options = (f"--nodes={arguments.nodes}", "--cpus-per-task=1")
        job = slurm.submit(*options, "slurm/generate_mofs.sh", "mofdiff_demo", "--out", str(large), *CHEAP,
                           "--count", str(arguments.count))  # fmt: skip
        state = slurm.wait(job, 3600)
        assert state == ("COMPLETED", 0), slurm.log(job)[-3000:]
    finally:
        slurm.stop()
    print(f"{arguments.count} frameworks on {arguments.nodes} nodes of one CPU, from {arguments.measured} on one:")
    total = 0.0
    for stage in plan["stages"]:
        seen = seconds_of(large, DIRECTORIES[stage["stage"]])
        total += seen
        print(f"  {stage['stage']:9s} predicted {stage['seconds']:6.1f} s, took {seen:6.1f} s")
    print(f"  in all    predicted {sum(stage['seconds'] for stage in plan['stages']):6.1f} s, took {total:6.1f} s")
    if arguments.out is None:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
