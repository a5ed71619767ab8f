"""The command line: every mistake is one clear line and a non-zero exit, and leaves nothing behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import main


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail; return its one line."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    assert code == 2, captured
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--space-group", "231"], "space group 231 does not exist"),
        (["generate", "--space-group", "0"], "space group 0 does not exist"),
        (["generate", "--count", "-5"], "must be at least 1, not -5"),
        (["generate", "--count", "many"], "'many' is not a number"),
        (["generate", "--count", "1.5"], "not a whole number"),
        (["generate", "--elements", "Li,Xx"], "unknown element 'Xx'"),
        (["generate", "--temperature", "0"], "must be above 0"),
        (["generate", "--sampler", "magic"], "invalid choice: 'magic'"),
        (["generate", "--workers", "-1"], "must be 0 or more"),
        (["generate", "--template", "225:a", "--space-group", "225"], "not both"),
        (["generate", "--checkpoint", "NOWHERE"], "NOWHERE: no such file or folder"),
        (["run", "symmcd_mp21"], "did you mean symmcd_mp20"),
        (["run", "symmcd_demo", "trian"], "unknown stage 'trian'"),
        (["run", "symmcd_demo", "--set", "train.max_step=5"], "did you mean train.max_steps"),
        (["run", "symmcd_demo", "--set", "train.max_steps=soon"], "train.max_steps: expected int"),
        (["run", "symmcd_demo", "--set", "sample.count=-1"], "count must be at least 1"),
        (["run", "symmcd_demo", "--set", "sample.space_groups=231"], "space group 231 does not exist"),
        (["run", "symmcd_demo", "--set", "train"], "KEY=VALUE"),
        (["run", "symmcd_demo", "--data", "NOWHERE"], "NOWHERE: no such file or folder"),
        (["run", "symmcd_demo", "sample"], "no checkpoint"),
        (["run", "symmcd_demo", "decode"], "run the stage 'sample' first"),
        (["run", "symmcd_custom", "preprocess"], "--data"),
        (["reconstruct", "NOWHERE"], "NOWHERE: no such file or folder"),
        (["evaluate", "NOWHERE", "--reference", "aflow"], "NOWHERE: no such file or folder"),
        (["nonsense"], "invalid choice: 'nonsense'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if arguments[0] != "nonsense":
        arguments = [*arguments, "--out", str(out), "--workers", "0"]
    assert message in fails(arguments, capsys)
    assert not out.exists()


def test_a_template_that_cannot_be_is_refused(tmp_path: Path) -> None:
    from cluster.sample import parse_template
    from matgen.errors import ConfigError

    for text, message in [
        ("225", "a template is"),
        ("231:a", "231 is outside"),
        ("225:z", "has no Wyckoff position 'z'"),
        ("225:a,a", "no free parameter"),
        ("225:a=Xx", "unknown element 'Xx'"),
        ("225:a-b", "is no Wyckoff letter"),
    ]:
        with pytest.raises(ConfigError, match=message):
            parse_template(text)
    template = parse_template("225: 4a=Na, b = Cl")
    assert template.letters == ("a", "b") and template.species_index == (10, 16)


def test_unwritable_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "file"
    out.write_text("I am a file")
    line = fails(["run", "symmcd_demo", "preprocess", "--out", str(out), "--workers", "0"], capsys)
    assert "is a file, not a directory" in line


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    captured = capsys.readouterr()
    experiments = {entry["name"]: entry for entry in json.loads(captured.out.splitlines()[-1])["experiments"]}
    assert {"symmcd_demo", "symmcd_mp20", "symmcd_mp20_paper", "symmcd_custom", "symmcd_seed_comparison"} <= set(
        experiments
    )
    assert experiments["symmcd_mp20"]["stages"][0] == "preprocess"
    assert all(entry["summary"] for entry in experiments.values())


def test_doctor_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out.splitlines()[-1])["findings"]
    assert {"python", "CPU", "GPU", "torch", "ray", "Slurm", "data"} <= {finding["what"] for finding in findings}
    assert all(finding["advice"] for finding in findings if finding["state"] != "ok")


def test_every_experiment_survives_json_and_has_a_small_twin() -> None:
    from experiments.listing import EXPERIMENTS, find_experiment
    from experiments.run import MOF_STAGE_FUNCTIONS, STAGE_FUNCTIONS, is_mof
    from experiments.small import small

    for name in EXPERIMENTS:
        experiment = find_experiment(name)
        assert experiment.name == name
        assert type(experiment).from_json(experiment.to_json()) == experiment
        assert small(experiment).train.max_steps == 60
        assert set(experiment.stages) <= set(MOF_STAGE_FUNCTIONS if is_mof(experiment) else STAGE_FUNCTIONS)
        assert experiment.with_seed(7).set("train.max_steps=3").train.seed == 7


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, contextlib, io\nfrom experiments.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n    main(['--help'])\n"
        "heavy = {'torch', 'ray', 'numpy', 'pymatgen', 'pyarrow', 'wandb', 'moyopy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
