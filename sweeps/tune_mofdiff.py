"""Find the settings with which MOFDiff samples best: those of the block encoder, then those of the coarse diffusion.

    python sweeps/tune_mofdiff.py                                   minutes on a laptop, embedded frameworks
    python sweeps/tune_mofdiff.py --experiment mofdiff_qmof --data DIR --trials 100 --out DIR --address auto
    python sweeps/tune_mofdiff.py --part blocks ...                 the encoder alone; or --part frameworks
    python sweeps/tune_mofdiff.py --resume DIR                      after anything
    matgen run --config DIR/frameworks/best.json train              the winner, as an experiment

The second part takes over the encoder that won the first one, and embeds with it once for all of its trials.
"""

import sys
from pathlib import Path

from matgen.errors import StageError
from sweeps.arguments import Defaults
from sweeps.budget import BudgetConfig
from sweeps.command import main
from sweeps.journal import ConfirmConfig, SweepConfig, open_sweep

_OUT = "sweeps-out/mofdiff_demo"
PARTS = {
    "blocks": Defaults(
        subject="block_encoder",
        experiment="mofdiff_demo",
        config=SweepConfig(
            subject="block_encoder",
            space="contrast",
            trials=6,
            budget=BudgetConfig(amount=4_500, num_rungs=3),
            samples=128,
            baselines=("paper",),
            confirm=ConfirmConfig(top=2, samples=256),
        ),
        out=f"{_OUT}/blocks",
        large=SweepConfig(
            subject="block_encoder",
            space="blocks",
            trials=50,
            budget=BudgetConfig(amount=2_000_000, num_rungs=4),
            samples=2048,
            baselines=("paper",),
            confirm=ConfirmConfig(top=3, samples=8192, seeds=2),
        ),
    ),
    "frameworks": Defaults(
        subject="mofdiff",
        experiment="mofdiff_demo",
        config=SweepConfig(
            subject="mofdiff",
            space="frameworks",
            trials=6,
            budget=BudgetConfig(amount=4_500, num_rungs=3),
            samples=24,
            baselines=("paper",),
            confirm=ConfirmConfig(top=2, samples=48),
        ),
        out=f"{_OUT}/frameworks",
        large=SweepConfig(
            subject="mofdiff",
            space="frameworks",
            trials=50,
            budget=BudgetConfig(amount=1_000_000, num_rungs=4),
            samples=256,
            baselines=("paper",),
            confirm=ConfirmConfig(top=3, samples=1024, seeds=2),
        ),
    ),
}


def tune(argv: list[str]) -> int:
    """Run one part, or both, the second with what the first one found."""
    part = _take(argv, "--part")
    if part is not None:
        if part not in PARTS:
            print(f"tune_mofdiff.py: --part {part}: there are blocks and frameworks", file=sys.stderr)
            return 2
        return main(PARTS[part], __doc__ or "", argv)
    if {"-h", "--help"} & set(argv):
        return main(PARTS["blocks"], __doc__ or "", argv)
    resume, out = _take(argv, "--resume"), _take(argv, "--out") or _OUT
    base = Path(resume or out)
    if resume and (base / "sweep.json").exists():  # of one part, begun with --part; the sweep says which
        try:
            subject = open_sweep(base)[0].config.subject
        except StageError as error:
            print(f"tune_mofdiff.py: {error}", file=sys.stderr)
            return 2
        for defaults in PARTS.values():
            if defaults.subject == subject:
                return main(defaults, __doc__ or "", [*argv, "--resume", resume])
    if resume and not (base / "blocks").exists():
        print(f"tune_mofdiff.py: {base}: no sweep here (no blocks/sweep.json)", file=sys.stderr)
        return 2
    if not resume and (base / "frameworks").exists():
        print(f"tune_mofdiff.py: {base} holds a sweep already: go on with --resume {base}", file=sys.stderr)
        return 2
    code = main(PARTS["blocks"], __doc__ or "", [*argv, "--resume" if resume else "--out", str(base / "blocks")])
    if code != 0:
        return code
    folder = base / "frameworks"
    if folder.exists():
        return main(PARTS["frameworks"], __doc__ or "", [*argv, "--resume", str(folder)])
    if resume:  # the second part begins as the first one did, whatever this command says
        _, about = open_sweep(base / "blocks")
        argv = [str(word) for word in about["arguments"]]
        _take(argv, "--out")
    found = str(base / "blocks" / "best.json")
    return main(PARTS["frameworks"], __doc__ or "", [*argv, "--out", str(folder), "--config", found])


def _take(argv: list[str], option: str) -> str | None:
    """Remove an option and its value from the arguments; return the value."""
    for place, word in enumerate(argv):
        if word == option and place + 1 < len(argv):
            value = argv[place + 1]
            del argv[place : place + 2]
            return value
        if word.startswith(f"{option}="):
            del argv[place]
            return word.partition("=")[2]
    return None


if __name__ == "__main__":
    sys.exit(tune(sys.argv[1:]))
