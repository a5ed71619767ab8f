"""Fetching a file once, with its checksum kept beside it.

Where the publisher states a SHA-256, that is what the file must have. Where none is stated, the checksum of the
first download is written beside the file ("pinned") and verified on every later use: that finds a file that rots or is
changed on this machine. It cannot find one that was already wrong on the day it was fetched.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from matgen.errors import DownloadError

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 30.0
_CHUNK = 1 << 20


def cache_dir() -> Path:
    """Where downloads are kept.

    Returns:
        The folder named by MATGEN_CACHE, else matgen in the user's cache folder.
    """
    stated = os.environ.get("MATGEN_CACHE")
    if stated:
        return Path(stated)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matgen"


def fetch(url: str, target: Path, sha256: str | None = None, required_word: str = "cif") -> Path:
    """Downloads a table unless it is there, and verifies it either way.

    Args:
        url: where it is published.
        target: where to keep it; its checksum goes to the same name with .sha256.
        sha256: the published checksum, if any.
        required_word: must be in the first line, so that a login page is not taken for a table.

    Returns:
        The target.

    Raises:
        DownloadError: no network, an incomplete or foreign file, or a wrong checksum.
    """
    pin = target.with_name(target.name + ".sha256")
    if target.is_file():
        expected = sha256 or (pin.read_text().split()[0] if pin.is_file() else None)
        found = _file_sha256(target)
        if expected is None:
            logger.warning("%s has no checksum beside it; pinned now as %s", target, found)
            pin.write_text(f"{found}  {target.name}\n")
        elif found != expected:
            raise DownloadError(f"{target}: SHA-256 is {found}, expected {expected}; delete it to fetch {url} again")
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        found = _stream(url, target, sha256, required_word)
        pin.write_text(f"{found}  {target.name}\n")
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", None) or error
        raise DownloadError(f"cannot download {url} to {target}: {reason}") from error
    logger.info("downloaded %s to %s, SHA-256 %s", url, target, found)
    return target


def _stream(url: str, target: Path, sha256: str | None, required_word: str) -> str:
    """Writes aside, verifies, renames; leaves nothing behind on failure."""
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as out, urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            announced = response.headers.get("Content-Length")
            size = 0
            while chunk := response.read(_CHUNK):
                if size == 0 and required_word.encode() not in chunk.split(b"\n", 1)[0]:
                    raise DownloadError(f"{url}: not the table: its first line has no {required_word!r} column")
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        if size == 0 or (announced is not None and size != int(announced)):
            raise DownloadError(f"{url}: incomplete, {size} of {announced or 'unknown'} bytes")
        if sha256 is not None and digest.hexdigest() != sha256:
            raise DownloadError(f"{url}: SHA-256 is {digest.hexdigest()}, expected {sha256}")
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return digest.hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
