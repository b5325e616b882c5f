"""What names an approved device."""

from __future__ import annotations

import pytest

from gateway.model import MemoryStore, PeerDevice
from gateway.peers import NoSuchPeer, PeerRegistry


def test_a_device_is_named_by_id_beginning_or_label() -> None:
    registry = PeerRegistry(MemoryStore())
    tablet = registry.approve(b"t" * 32, "tablet", "android")
    laptop = registry.approve(b"l" * 32, "laptop", "linux")
    for name in (tablet.id, tablet.id[:6], "tablet"):
        assert registry.find(name).public_key == tablet.public_key
    for name in ("", "tab", "phone"):
        with pytest.raises(NoSuchPeer):
            registry.find(name)
    registry.rename(laptop, "tablet")
    with pytest.raises(NoSuchPeer):
        registry.find("tablet")
    registry.revoke(laptop)
    assert registry.find("tablet").public_key == tablet.public_key, "the other is revoked"


def test_a_label_that_looks_like_an_id_takes_nobodys_place() -> None:
    """Devices name themselves: who is called like the beginning of another's id is ambiguous."""
    registry = PeerRegistry(MemoryStore())
    tablet: PeerDevice = registry.approve(b"t" * 32, "tablet", "android")
    impostor = registry.approve(b"l" * 32, tablet.id[:4], "linux")
    with pytest.raises(NoSuchPeer):
        registry.find(tablet.id[:4])
    assert registry.find(tablet.id[:5]).public_key == tablet.public_key
    assert registry.find(impostor.id).public_key == impostor.public_key
    whole = registry.approve(b"w" * 32, tablet.id, "linux")
    assert registry.find(tablet.id).public_key == tablet.public_key, "a whole id goes first"
    assert registry.find(whole.id).public_key == whole.public_key
