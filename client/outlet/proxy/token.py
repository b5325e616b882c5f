"""The password of the proxy that this client has made for itself."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from client.model import ClientError
from storage import own

FILE = "proxy-token"
_BYTES = 16
_TOKEN = re.compile(rb"[0-9a-f]{32}")


def proxy_token(state_dir: Path) -> str:
    """The token in `state_dir`, made at the first time, so that programs' settings last.

    The file has mode 0600. Raises ClientError `proxy_token`.
    """
    path = state_dir / FILE
    try:
        try:
            kept = own.read(path, 2 * _BYTES + 1).strip()
            if _TOKEN.fullmatch(kept):
                return kept.decode()
        except FileNotFoundError:
            pass
        token = secrets.token_hex(_BYTES)
        own.replace(path, token.encode() + b"\n", 0o600)
    except OSError as error:
        raise ClientError(
            "proxy_token",
            f"The proxy's password cannot be kept in {path}: {error.strerror or error}.",
            "Make room there, or set a password: vpnshare set client.proxy_password -",
        ) from error
    return token
