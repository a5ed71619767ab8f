"""On a real Slurm of several nodes: the scripts as a user types them, exit codes, strangers, failures, chaos."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from chaos import chaos
from slurm_cluster import ROOT, SlurmCluster, why_not

from matgen.training.history import read_history

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(why_not()), reason=why_not())]

SMALL = (
    "--small",
    "--set",
    "train.max_steps=300",
    "--set",
    "preprocess.limit=96",
    "--set",
    "train.checkpoint_every=10",
)
SYMMCD = (*SMALL, "--set", "train.log_every=1")
HOLD = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=2
cd "$SLURM_SUBMIT_DIR" && . slurm/ray_cluster.sh
run_on_ray python -c 'import pathlib, sys, time; p = pathlib.Path(sys.argv[1])
while not p.exists(): time.sleep(0.2)
sys.exit(37)' {file}
"""
STRANGER = """
import os, sys
from ray._raylet import GcsClient
refused, reached = 0, []
for _ in range(25):
    try:
        GcsClient(address=sys.argv[1]).internal_kv_keys(b"", namespace=None, timeout=10)
        reached.append("in")
    except Exception as error:
        assert "InvalidAuthToken" in str(error), error
        refused += 1
print("refused", refused, reached)
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """Two nodes, torn down whatever happens."""
    with tempfile.TemporaryDirectory(prefix="matgen-slurm-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = SlurmCluster.start(Path(folder), nodes=2, cpus=2)
        try:
            yield cluster
        finally:
            cluster.stop()


def best_loss(out: Path) -> float:
    return min(
        row["total"] for row in read_history(out / "checkpoint" / "history.jsonl") if row["kind"] == "validation"
    )


def steps(out: Path) -> int:
    rows = read_history(out / "checkpoint" / "history.jsonl")
    return max((row["step"] for row in rows), default=0)


def test_strangers_are_refused_and_a_failing_command_gives_its_exit_code(slurm: SlurmCluster) -> None:
    script, stop = slurm.shared / "hold.sh", slurm.shared / "stop"
    script.write_text(HOLD.format(file=stop))
    began = time.monotonic()
    job = slurm.submit(str(script))
    slurm.until(lambda: "Ray is up at" in slurm.log(job), 300, lambda: slurm.log(job))
    print(f"Ray ready {time.monotonic() - began:.0f} s after sbatch")
    address = slurm.log(job).split("Ray is up at ")[1].split(": ")[0]
    (token,) = (ROOT / ".slurm").glob(f"job-{job}-*/token")
    assert token.stat().st_mode & 0o777 == 0o600 and token.parent.stat().st_mode & 0o777 == 0o700
    secret = token.read_text()
    (slurm.shared / "stranger.py").write_text(STRANGER)
    for node in ("node1", "node2"):
        for mode in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
            settings = [f"{key}={value}" for key, value in mode.items()]
            words = ["env", "-u", "RAY_AUTH_TOKEN_PATH", "HOME=/nonexistent", *settings, sys.executable]
            said = slurm.run("slurm-node", "exec", node, *words, str(slurm.shared / "stranger.py"), address)
            assert "refused 25 []" in said
        assert secret not in slurm.run("slurm-node", "exec", node, "ps", "-eo", "args")
    stop.touch()
    assert slurm.wait(job) == ("FAILED", 37)
    assert secret not in slurm.log(job)
    assert not token.parent.exists(), "the token went with the job"


def test_a_script_submitted_from_elsewhere_says_so(slurm: SlurmCluster, tmp_path: Path) -> None:
    words = [
        "sbatch",
        "--parsable",
        "--cpus-per-task=2",
        f"--output={slurm.shared}/%j.log",
        f"{ROOT}/slurm/train_symmcd.sh",
    ]
    done = subprocess.run(words, cwd=slurm.shared, env=slurm.environment, capture_output=True, text=True, check=True)
    job = int(done.stdout)
    assert slurm.wait(job) == ("FAILED", 2)
    assert "submit this from the root of the repository" in slurm.log(job)


def test_training_survives_time_limit_preemption_and_power_failures_with_the_loss_of_an_undisturbed_run(
    slurm: SlurmCluster,
) -> None:
    plain, out = slurm.shared / "plain", slurm.shared / "disturbed"
    alone = [f"{sys.prefix}/bin/matgen", "run", "symmcd_demo", "preprocess", "train", "--workers", "0", *SYMMCD]
    environment = {**os.environ, "WANDB_MODE": "disabled"}
    subprocess.run([*alone, "--quiet", "--out", str(plain)], cwd=ROOT, env=environment, check=True, timeout=900)

    job = slurm.submit("--cpus-per-task=2", "slurm/train_symmcd.sh", "symmcd_demo", "--out", str(out), *SYMMCD)
    slurm.until(lambda: steps(out) >= 12, 600, lambda: slurm.log(job))

    def time_limit() -> None:
        slurm.run("scancel", "--signal=USR1", "--batch", str(job))
        slurm.until(lambda: slurm.log(job).count("Ray is up at") == 2, 300, lambda: slurm.log(job))

    def preemption() -> None:
        words = ("--partition=urgent", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2", "--wrap=true")
        assert slurm.wait(slurm.submit(*words)) == ("COMPLETED", 0)
        slurm.until(lambda: slurm.log(job).count("Ray is up at") == 3, 300, lambda: slurm.log(job))

    def worker_without_power() -> None:  # Ray goes on, or Slurm queues the job again
        slurm.run("slurm-node", "kill", "node2")
        slurm.run("slurm-node", "start", "node2")

    def head_without_power() -> None:
        ups = slurm.log(job).count("Ray is up at")
        slurm.run("slurm-node", "kill", "node1")
        slurm.run("slurm-node", "start", "node1")
        slurm.until(lambda: slurm.log(job).count("Ray is up at") > ups, 400, lambda: slurm.log(job))

    for happens in (time_limit, preemption, worker_without_power, head_without_power):
        at, began = steps(out), time.monotonic()
        happens()
        slurm.until(lambda at=at: steps(out) > at, 600, lambda: slurm.log(job))
        print(f"{happens.__name__}: past step {at} again after {time.monotonic() - began:.0f} s")
        slurm.until(lambda at=at: steps(out) >= at + 15, 600, lambda: slurm.log(job))
    assert slurm.wait(job) == ("COMPLETED", 0), slurm.log(job)[-3000:]
    assert best_loss(out) == pytest.approx(best_loss(plain), rel=1e-3)


def test_mofdiff_trains_from_its_script(slurm: SlurmCluster) -> None:
    out = slurm.shared / "mofdiff"
    small = ("--small", "--set", "train.max_steps=5", "--set", "blocks.train.max_steps=5")
    job = slurm.submit("--cpus-per-task=2", "slurm/train_mofdiff.sh", *frameworks(), "--out", str(out), *small)
    assert slurm.wait(job, 1500) == ("COMPLETED", 0), slurm.log(job)[-3000:]
    assert (out / "block_encoder").is_dir() and steps(out) == 5


def test_mofs_are_generated_from_their_script_and_watched(slurm: SlurmCluster) -> None:
    out, matgen = slurm.shared / "mofdiff", f"{sys.prefix}/bin/matgen"
    assert (out / "checkpoint").is_dir(), "made by the test of training"
    cheap = ("--small", "--set", "sample.shard_size=4", "--set", "decode.lookup.num_tries=1")
    cheap += ("--set", "decode.lookup.num_simple=0", "--set", "decode.assemble.trials=1")
    cheap += ("--set", "evaluate.porosity=false", "--set", "evaluate.reference_limit=8")
    words = ("slurm/generate_mofs.sh", *frameworks(), "--count", "8", "--out", str(out), *cheap)
    job = slurm.submit("--cpus-per-task=2", *words)
    slurm.until(lambda: (out / "samples" / "run.json").exists(), 600, lambda: slurm.log(job))
    during = slurm.run(matgen, "status", str(out))
    live = subprocess.Popen(
        [matgen, "watch", str(out)], env=slurm.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert slurm.wait(job) == ("COMPLETED", 0), slurm.log(job)[-3000:]
    live.terminate()
    assert "sample" in during and "sample" in live.communicate(timeout=30)[0]
    after = slurm.run(matgen, "status", str(out))
    assert after.count("2 of 2 shards, 8 rows") >= 2, after
    for folder in ("samples", "structures", "relaxed"):
        rows = [row for path in (out / folder).glob("part-*.parquet") for row in pq.read_table(path).to_pylist()]
        assert sorted(row["sample_id"] for row in rows) == list(range(8)), folder
    assert (out / "report.html").stat().st_size > 10_000


def frameworks() -> tuple[str, ...]:
    """The experiment on embedded frameworks; where a checkout has none, some of the data set's."""
    if list((ROOT / "experiments" / "data").glob("mof_demo*.parquet")):
        return ("mofdiff_demo", "--set", "preprocess.limit=60")
    data = os.environ.get("MATGEN_DATA", "")
    assert data, "no frameworks: neither embedded ones nor MATGEN_DATA"
    return ("mofdiff_qmof", "--data", data, "--set", "preprocess.limit=60")


def test_a_sweep_runs_from_its_script(slurm: SlurmCluster) -> None:
    words = ("--trials", "2", "--baselines", "none", "--budget", "288", "--rungs", "1", "--samples", "4")
    words += ("--confirm-top", "1", "--confirm-samples", "4", "--set", "preprocess.limit=96")
    job = slurm.submit("--cpus-per-task=2", "slurm/tune_symmcd.sh", *words)
    out = ROOT / f"sweep-{job}"
    try:
        assert slurm.wait(job, 900) == ("COMPLETED", 0), slurm.log(job)[-3000:]
        assert json.loads((out / "best.json").read_text())["name"] == "symmcd_demo"
        assert (out / "sweep.html").is_file() and pq.read_table(out / "results.parquet").num_rows == 2
    finally:
        shutil.rmtree(out, ignore_errors=True)


def test_an_array_of_shards_and_its_gathering_job(slurm: SlurmCluster) -> None:
    out, plain = slurm.shared / "array", slurm.shared / "plain"
    assert (plain / "checkpoint").is_dir(), "made by the test of training"
    options = ["--small", "--checkpoint", str(plain / "checkpoint"), "--set", "sample.sampler.num_steps=4"]
    words = ["campaign", "symmcd_demo", "--out", str(out), "--cpus", "1", "--count", "40", "--shard-size", "8"]
    words += ["--shards-per-task", "2", "--stages", "sample", "decode", "--then", "--", *options]
    said = slurm.run(sys.executable, "-m", "slurm.submit", *words)
    assert said.startswith("4 jobs, "), said
    gather = int(said.split(" to ")[1].split(";")[0])
    assert slurm.wait(gather) == ("COMPLETED", 0)
    one = [f"{sys.prefix}/bin/matgen", "run", "symmcd_demo", "sample", "decode", "--workers", "0", "--quiet"]
    one += ["--count", "40", "--set", "sample.shard_size=8", "--out", str(slurm.shared / "one"), *options]
    subprocess.run(one, cwd=ROOT, env=slurm.environment, check=True, timeout=600)
    for path in sorted((slurm.shared / "one" / "structures").glob("part-*.parquet")):
        assert pq.read_table(out / "structures" / path.name).equals(pq.read_table(path)), path.name
    status = slurm.run(f"{sys.prefix}/bin/matgen", "status", str(out))
    assert "5 of 5 shards, 40 rows" in status and status.count("done") == 2


def test_chaos_of_500_items() -> None:
    with tempfile.TemporaryDirectory(prefix="matgen-chaos-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        print(chaos(Path(folder), 500))
