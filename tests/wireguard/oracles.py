"""Other people's WireGuard and Noise, to compare ours with.

`wireguard-protocol` (PyPI) has a package of the same name as a room of ours, so it
lies beside the environment's packages and is loaded under another name.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from noise.connection import Keypair, NoiseConnection

from wireguard.constants import CONSTRUCTION, IDENTIFIER

_NAME = "wireguard_oracle"


def wireguard_protocol() -> Any:
    """The package, or a skipped test."""
    if _NAME not in sys.modules:
        root = Path(sys.prefix) / "oracles" / "wireguard"
        if not root.is_dir():
            pytest.skip("wireguard-protocol is not installed")
        spec = importlib.util.spec_from_file_location(
            _NAME, root / "__init__.py", submodule_search_locations=[str(root)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[_NAME] = module
        spec.loader.exec_module(module)
    return sys.modules[_NAME]


def oracle_handshake(private: bytes, public: bytes | None, psk: bytes | None) -> Any:
    """One end of a handshake of wireguard-protocol's."""
    package = wireguard_protocol()
    return package.Handshake(
        package.PrivateKey(private), package.PublicKey(public) if public else None, psk
    )


def oracle_initiator(private: bytes, public: bytes, psk: bytes | None) -> Any:
    """A device of wireguard-protocol's: timers, sessions and all, without a socket."""
    package = wireguard_protocol()
    return package.Initiator(package.PrivateKey(private), package.PublicKey(public), psk)


def noise_library(
    initiator: bool, static: bytes, remote: bytes | None, psk: bytes
) -> NoiseConnection:
    """One end of IKpsk2 of noiseprotocol's."""
    noise = NoiseConnection.from_name(CONSTRUCTION)
    if initiator:
        noise.set_as_initiator()
    else:
        noise.set_as_responder()
    noise.set_keypair_from_private_bytes(Keypair.STATIC, static)
    if remote is not None:
        noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote)
    noise.set_prologue(IDENTIFIER)
    noise.set_psks(psk)
    noise.start_handshake()
    return noise
