"""Connect to Ray: a quiet local one with a token of its own, or the cluster that RAY_ADDRESS names."""

import atexit
import collections
import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from matgen.errors import StageError

logger = logging.getLogger(__name__)

START_ATTEMPTS = 3  # Ray waits 30 s for its own processes, which a busy machine may not manage

Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180",
}


@contextlib.contextmanager
def ray_session(
    num_cpus: int, *, num_gpus: int | None = None, address: str | None = None, object_store_bytes: int = 256 << 20
) -> Iterator[None]:
    """Have Ray up inside the block; a Ray that was already up is used and left up.

    Args:
        num_cpus: logical CPUs of a local Ray, one an actor; ignored when joining a cluster.
        num_gpus: logical GPUs of a local Ray; None lets Ray count them.
        address: cluster to join; None takes RAY_ADDRESS, and without that starts a local one.
        object_store_bytes: limit of a local object store; parts are files, so little passes through it.

    Raises:
        StageError: Ray could not be started or reached.
    """
    prepare_environment()
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        settings["address"] = address
    else:
        settings |= {
            "address": "local",
            "num_cpus": num_cpus,
            "include_dashboard": False,
            "object_store_memory": object_store_bytes,
        }
        if num_gpus is not None:
            settings["num_gpus"] = num_gpus
    _connect(ray, settings)
    logger.debug("Ray is up: %s", address or f"local, {num_cpus} CPUs")
    try:
        yield
    finally:
        ray.shutdown()


def cluster_gpus() -> int:
    """Return how many GPUs the Ray cluster has that RAY_ADDRESS names."""
    with ray_session(1):
        import ray

        return int(ray.cluster_resources().get("GPU", 0))


def session_environment() -> dict[str, str]:
    """Return the environment for a child process that is to join the Ray of this one, where there is one."""
    environment = dict(os.environ)
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        environment["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    return environment


def _connect(ray: Any, settings: dict[str, Any]) -> None:
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(**settings)
        except Exception as error:
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                reason = " ".join(str(error).split())
                raise StageError(f"Ray did not start ({settings['address']}): {reason}") from error
            logger.warning("Ray did not start, trying again: %s", error)
        else:
            return


@contextlib.contextmanager
def ray_mapper(num_workers: int) -> Iterator[Mapper]:
    """Give a function like `map` that works on Ray, results in order, twice as many pieces under way as workers.

    Args:
        num_workers: 0 gives `map` itself.
    """
    if num_workers == 0:
        yield map
        return
    with ray_session(num_workers):
        import ray

        remote = ray.remote(_apply)

        def mapper(function: Callable[[Any], Any], pieces: Iterable[Any]) -> Iterator[Any]:
            shared, waiting = ray.put(function), collections.deque[Any]()
            for piece in pieces:
                waiting.append(remote.remote(shared, piece))
                if len(waiting) >= 2 * num_workers:
                    yield _result(ray, waiting.popleft())
            while waiting:
                yield _result(ray, waiting.popleft())

        yield mapper


def _apply(function: Callable[[Any], Any], piece: Any) -> Any:
    return function(piece)


def _result(ray: Any, ref: Any) -> Any:
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def prepare_environment() -> None:
    """Set what Ray reads as it is imported: quietness, and who may connect. Call before the first `import ray`."""
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    if not os.environ.get("RAY_ADDRESS"):
        _ensure_token()


def _ensure_token() -> None:
    """Set a token for this process's own Ray, readable by its owner alone, unless the environment already says one.

    A local Ray would otherwise write ~/.ray/auth_token by itself, and processes started before and after disagree.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    if "ray" in sys.modules:  # Ray read its environment as it was imported: a token set now would not be known to it
        os.environ["RAY_AUTH_MODE"] = "disabled"
        return
    directory = Path(tempfile.mkdtemp(prefix="matgen-ray-"))  # mkdtemp makes it 0700
    path = directory / "token"
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(directory, ignore_errors=True)

    atexit.register(remove)
