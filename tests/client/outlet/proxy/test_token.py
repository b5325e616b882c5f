"""The proxy's own password: made once, kept to its user, and told as URLs."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from client.model import ClientError
from client.outlet.proxy.token import FILE, proxy_token


def test_it_is_made_once_and_is_the_users(tmp_path: Path) -> None:
    state = tmp_path / "state"
    token = proxy_token(state)
    assert len(token) == 32 and token == proxy_token(state)
    assert stat.S_IMODE((state / FILE).stat().st_mode) == 0o600
    assert proxy_token(tmp_path / "other") != token


@pytest.mark.parametrize("text", ["", "short", "x" * 32, "0" * 64])
def test_a_damaged_one_is_made_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    tmp_path.chmod(0o700)
    token = proxy_token(tmp_path)
    assert len(token) == 32 and token != text
    assert (tmp_path / FILE).read_text() == token + "\n"


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("0" * 32)
    tmp_path.chmod(0o700)
    (tmp_path / FILE).symlink_to(tmp_path / "victim")
    with pytest.raises(ClientError) as caught:
        proxy_token(tmp_path)
    assert caught.value.name == "proxy_token" and caught.value.hint
