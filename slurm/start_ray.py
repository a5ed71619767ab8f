"""`ray start`, whose raylet does not wait for the agent that listens for the dashboard.

A raylet gives that agent 15 s to say its port, and dies when it has not (a busy node, Python on a slow file system); it
takes the port as an option, which `ray start` does not hand on.
"""

import sys
from typing import Any


def main() -> Any:
    """Run `ray start` with the arguments of this command."""
    from ray._private import services
    from ray.scripts.scripts import main as ray

    option = next((word for word in sys.argv if word.startswith("--dashboard-agent-listen-port=")), None)
    start = services.start_ray_process

    def start_with_port(command: list[str], process_type: str, *args: Any, **settings: Any) -> Any:
        if process_type == "raylet" and option is not None:
            command = [*command, option.replace("-", "_").replace("__", "--", 1)]
        return start(command, process_type, *args, **settings)

    services.start_ray_process = start_with_port
    sys.argv = ["ray", "start", *sys.argv[1:]]
    return ray()


if __name__ == "__main__":
    sys.exit(main())
