"""Wait until a Ray cluster (RAY_ADDRESS) has so many nodes; exit code 1 when it has not in time."""

import argparse
import logging
import os
import socket
import sys
import time


def main() -> int:
    """Wait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", type=int)
    parser.add_argument("--seconds", type=float, default=600.0)
    arguments = parser.parse_args()
    import ray

    host, _, port = os.environ["RAY_ADDRESS"].rpartition(":")
    deadline, alive = time.monotonic() + arguments.seconds, 0
    while time.monotonic() < deadline:
        try:
            if not ray.is_initialized():
                socket.create_connection((host, int(port)), timeout=5).close()  # Ray itself takes long to give up
                ray.init(address=os.environ["RAY_ADDRESS"], logging_level=logging.ERROR, log_to_driver=False)
            alive = sum(node["Alive"] for node in ray.nodes())
            if alive >= arguments.nodes:
                return 0
        except Exception:  # noqa: BLE001  whatever a cluster that is not there yet says; it may be there next time
            ray.shutdown()
        time.sleep(0.5)
    sys.stderr.write(f"{alive} of {arguments.nodes} nodes after {arguments.seconds:g} s\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
