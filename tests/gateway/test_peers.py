"""What names an approved device, and that one place keeps what is known of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gateway
from gateway.model import MemoryStore, PeerDevice
from gateway.peers import NoSuchPeer, PeerRegistry
from rules.value import NO_RULES, Rules
from tests.fakes.clock import Stopped

CLOCK = Stopped(wall=1e9)


def test_a_device_is_named_by_id_beginning_or_label() -> None:
    registry = PeerRegistry(MemoryStore(), CLOCK.clock)
    tablet = registry.approve(b"t" * 32, "tablet", "android")
    laptop = registry.approve(b"l" * 32, "laptop", "linux")
    for name in (tablet.id, tablet.id[:6], "tablet"):
        assert registry.find(name).public_key == tablet.public_key
    for name in ("", "tab", "phone"):
        with pytest.raises(NoSuchPeer):
            registry.find(name)
    registry.rename(laptop.public_key, "tablet")
    with pytest.raises(NoSuchPeer):
        registry.find("tablet")
    registry.revoke(laptop.public_key)
    assert registry.find("tablet").public_key == tablet.public_key, "the other is revoked"


def test_a_label_that_looks_like_an_id_takes_nobodys_place() -> None:
    """Devices name themselves: who is called like the beginning of another's id is ambiguous."""
    registry = PeerRegistry(MemoryStore(), CLOCK.clock)
    tablet: PeerDevice = registry.approve(b"t" * 32, "tablet", "android")
    impostor = registry.approve(b"l" * 32, tablet.id[:4], "linux")
    with pytest.raises(NoSuchPeer):
        registry.find(tablet.id[:4])
    assert registry.find(tablet.id[:5]).public_key == tablet.public_key
    assert registry.find(impostor.id).public_key == impostor.public_key
    whole = registry.approve(b"w" * 32, tablet.id, "linux")
    assert registry.find(tablet.id).public_key == tablet.public_key, "a whole id goes first"
    assert registry.find(whole.id).public_key == whole.public_key


def test_of_a_device_the_registry_has_the_record_as_it_is_now() -> None:
    registry = PeerRegistry(MemoryStore(), CLOCK.clock)
    key = b"t" * 32
    with pytest.raises(NoSuchPeer):
        registry.device(key)
    registry.approve(key, "tablet", "android")
    registry.rename(key, "attic")
    registry.seen(key, "linux")
    registry.revoke(key)
    now = registry.device(key)
    assert (now.label, now.platform, now.revoked) == ("attic", "linux", True)


def test_nobody_but_the_registry_keeps_a_devices_record() -> None:
    """A record is replaced when anything about its device changes: a copy would be out of date.
    The store is what the registry writes to."""
    keepers = []
    for file in sorted(Path(gateway.__file__).parent.rglob("*.py")):
        tree = ast.parse(file.read_text())
        bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        fields = {id(line) for body in bodies for line in body}
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and (
                id(node) in fields or isinstance(node.target, ast.Attribute)
            ):
                kept = "PeerDevice" in ast.unparse(node.annotation)
                if kept and "Callable" not in ast.unparse(node.annotation):
                    keepers.append(file.name)
    assert set(keepers) == {"model.py"}


def test_rules_are_told_when_they_change_and_kept() -> None:
    store = MemoryStore()
    registry = PeerRegistry(store, CLOCK.clock)
    told: list[tuple[bytes, Rules]] = []
    registry.on_rules.append(lambda key, rules: told.append((key, rules)))
    key, limited = b"t" * 32, Rules(limit_down=8_000)
    assert registry.rules(key) == NO_RULES
    registry.set_rules(key, limited)
    registry.approve(key, "tablet", "android")
    registry.set_rules(key, limited)
    assert told == [(key, limited)], "what is as before is no news"
    assert PeerRegistry(store, CLOCK.clock).rules(key) == limited
    registry.set_rules(key, NO_RULES)
    assert told[1:] == [(key, NO_RULES)] and PeerRegistry(store, CLOCK.clock).rules(key) == NO_RULES
    assert store.rules() == {}


def test_a_new_key_has_the_rules_of_the_old_one_or_those_given_with_it() -> None:
    registry = PeerRegistry(MemoryStore(), CLOCK.clock)
    old, new, other = b"o" * 32, b"n" * 32, b"p" * 32
    registry.approve(old, "tablet", "wireguard")
    registry.set_rules(old, Rules(paused=True))
    told: list[tuple[bytes, Rules]] = []
    registry.on_rules.append(lambda key, rules: told.append((key, rules)))
    registry.succeed(old, new)
    assert told == [(new, Rules(paused=True)), (old, NO_RULES)]
    registry.set_rules(other, Rules(max_flows=5))
    registry.succeed(new, other)
    assert registry.rules(other) == Rules(max_flows=5) and registry.rules(new) == NO_RULES


def test_a_device_that_is_let_in_again_is_limited_as_before_but_its_time_begins() -> None:
    registry = PeerRegistry(MemoryStore(), CLOCK.clock)
    key = b"g" * 32
    registry.approve(key, "guest", "linux")
    registry.set_rules(key, Rules(until=CLOCK.wall - 1, max_flows=9))
    registry.revoke(key)
    assert registry.rules(key).max_flows == 9
    registry.approve(key, "guest", "linux")
    assert registry.rules(key) == Rules(max_flows=9)
    later = Rules(until=CLOCK.wall + 3600)
    registry.set_rules(key, later)
    registry.approve(key, "guest", "linux")
    assert registry.rules(key) == later
