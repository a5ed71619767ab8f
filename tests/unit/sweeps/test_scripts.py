"""The batch scripts of sweeps: what they run, at first and after a requeue, is a command that the sweeps understand."""

import os
import subprocess
from pathlib import Path

import pytest

from sweeps.arguments import build_parser
from sweeps.tune_mofdiff import PARTS
from sweeps.tune_symmcd import DEFAULTS

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["tune_symmcd", "tune_mofdiff"])
def test_a_script_begins_a_sweep_and_goes_on_with_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "ray_cluster.sh").write_text("run_on_ray() { printf '%s\\n' \"$@\"; }\n")
    environment = {**os.environ, "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7"}

    def command() -> list[str]:
        words = ["bash", str(ROOT / "slurm" / f"{name}.sh"), "--trials", "3", "--set", "train.batch_size=8"]
        ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0 and not ran.stderr, ran.stderr
        return ran.stdout.splitlines()

    first = command()
    assert first[:2] == ["python", f"sweeps/{name}.py"] and (ROOT / first[1]).exists()
    parser = build_parser(DEFAULTS if name == "tune_symmcd" else PARTS["blocks"], "")
    asked = parser.parse_args(first[2:])
    assert (asked.out, asked.trials, asked.set, asked.resume) == (Path("sweep-7"), 3, ["train.batch_size=8"], None)
    (tmp_path / "sweep-7").mkdir()
    again = parser.parse_args(command()[2:])
    assert (again.resume, again.out, again.trials) == (Path("sweep-7"), None, None)
