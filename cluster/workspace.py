"""A W&B workspace as code, for trainings and campaigns: python -m cluster.workspace ENTITY (with a key of W&B)."""

import argparse
import os
import sys
from typing import Any

SECTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "Training": (
        ("loss", "train/total"),
        ("validation loss", "validation/total"),
        ("learning rate", "train/learning_rate"),
        ("norm of the gradient", "train/grad_norm"),
    ),
    "Campaigns": (
        ("rows a second", "rate"),
        ("busy share of the workers", "busy_share"),
        ("pieces waiting", "queued"),
        ("workers", "workers"),
        ("deaths of workers", "deaths"),
        ("rows over their deadline", "timeouts"),
    ),
}
"""Section -> title and metric of its plots; the metrics are those that `cluster.train` and `cluster.progress` log."""
YIELDS = (("share of each status", "^status/"), ("failures by reason", "^reason/"))
PICTURES = ("samples", "good samples")


def build_workspace(entity: str, project: str) -> Any:
    """Build the workspace; nothing is sent before its `save()`.

    Args:
        entity: user or team.
        project: of the runs.

    Returns:
        A `wandb_workspaces.workspaces.Workspace`.

    Raises:
        ModuleNotFoundError: wandb-workspaces is not installed.
    """
    import wandb_workspaces.reports.v2 as panels
    from wandb_workspaces import workspaces

    sections = [
        workspaces.Section(
            name=name,
            is_open=True,
            panels=[panels.LinePlot(title=title, x="Step", y=[metric]) for title, metric in plots],
        )
        for name, plots in SECTIONS.items()
    ]
    sections[-1].panels += [panels.LinePlot(title=title, x="Step", metric_regex=regex) for title, regex in YIELDS]
    shown = [panels.MediaBrowser(title=key, media_keys=[key], num_columns=1) for key in PICTURES]
    sections.append(workspaces.Section(name="Pictures", is_open=True, panels=shown))
    return workspaces.Workspace(entity=entity, project=project, name="matgen", sections=sections)


def main() -> int:
    """Build it and save it to W&B."""
    parser = argparse.ArgumentParser(prog="python -m cluster.workspace", description=__doc__)
    parser.add_argument("entity", help="W&B user or team")
    parser.add_argument("--project", default=os.environ.get("WANDB_PROJECT", "matgen"))
    arguments = parser.parse_args()
    try:
        workspace = build_workspace(arguments.entity, arguments.project)
    except ModuleNotFoundError:
        parser.exit(2, "wandb-workspaces is not installed: pip install wandb-workspaces\n")
    sys.stdout.write(f"{workspace.save().url}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
