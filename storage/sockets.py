"""Names of Unix sockets beyond the kernel's limit (unix(7): 108 bytes, with the NUL)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

MAX_SOCKET_PATH = 107


@contextlib.contextmanager
def reachable(path: str) -> Iterator[str]:
    """A name for `path` that `bind` and `connect` take, good within the context.

    Where the path is too long it leads by way of an open descriptor of the folder.
    Raises `OSError`.
    """
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        yield path
        return
    parent, name = os.path.split(path)
    descriptor = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
