"""The configuration file: what is accepted, and errors that name line and fix."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services import config
from services.config import DEFAULT_PORT, SETTINGS, ConfigError, load, parse, parse_listen
from vshp.constants import DEFAULT_PORT as PROTOCOL_PORT


def test_no_file_means_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path / "config.toml")
    assert all(settings[s.section, s.key] == s.default for s in SETTINGS)


def test_all_settings_can_be_set() -> None:
    text = ""
    for section in dict.fromkeys(s.section for s in SETTINGS):
        text += f"[{section}]  # a comment\n"
        text += "".join(
            f"{s.key} = {config._toml(s.default)}\n" for s in SETTINGS if s.section == section
        )
    assert tomllib.loads(text)
    parsed = parse(text, "config.toml")
    assert all(parsed[s.section, s.key] == s.default for s in SETTINGS)


def test_defaults_pass_their_own_checks() -> None:
    for setting in SETTINGS:
        assert setting.check(setting.default) == setting.default


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[gateway]\n\nnmae = 'x'\n", "line 3: 'nmae' is not known in [gateway]. Did you mean"),
        ("# hello\n[gatway]\n", "line 2: [gatway] is not known. Did you mean 'gateway'?"),
        ("name = 'x'\n", "line 1: 'name' outside a section is not known."),
        ("[gateway]\nname = 3\n", 'line 2: gateway.name must be a string, for example "".'),
        ("[client]\noffload = 1\n", "line 2: client.offload must be true or false"),
        ("[client]\nmtu = 70000\n", "line 2: client.mtu: must be 0, or 1280 to 65535."),
        ("[gateway]\nlease = 1\n", "line 2: gateway.lease: must be 60 to 2592000."),
        ("[client]\nmtu = true\n", "line 2: client.mtu must be a whole number"),
        ("[logs]\nlevel = 'loud'\n", "line 2: logs.level: must be one of: debug, info"),
        (
            "[gateway]\nlisten = ['nowhere:1']\n",
            "line 2: gateway.listen: 'nowhere:1' is no address",
        ),
        ("[gateway]\nlisten = [\n 1,\n]\n", "line 2: gateway.listen: must be a list of strings"),
        ("[gateway]\nlisten = ['0.0.0.0:0']\n", "0 is not one of 1 to 65535"),
        ("[gateway]\npool_ipv4 = '10.0.0.0/31'\n", "line 2: gateway.pool_ipv4: must be an IPv4"),
        ("[gateway]\nname =\n", "line 2, column 7"),
        ("[gateway]\nname = 'a'\nname = 'b'\n", "line 3"),
        ("[console]\nrefresh = 'often'\n", "line 2: console.refresh must be a number"),
        ("logs.colour = 1\n", "line 1: 'colour' is not known in [logs]"),
    ],
)
def test_errors_name_line_and_fix(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "config.toml")
    assert str(caught.value).startswith("config.toml, line ") and error in str(caught.value)


def test_whole_numbers_do_for_numbers() -> None:
    assert parse("[console]\nrefresh = 2\n", "c")["console", "refresh"] == 2.0


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"[gateway]\nname = '\xff'\n")
    with pytest.raises(ConfigError, match="line 2: not UTF-8"):
        load(path)
    path.write_bytes(b"#" * (config.MAX_FILE + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load(path)
    with pytest.raises(ConfigError, match="is no ordinary file"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("0.0.0.0:47800", ("0.0.0.0", 47800)),
        ("192.168.1.2", ("192.168.1.2", 47800)),
        ("[::]:1", ("::", 1)),
        ("[fe80::1]", ("fe80::1", 47800)),
        ("::1", ("::1", 47800)),
    ],
)
def test_listen_addresses(text: str, parsed: tuple[str, int]) -> None:
    assert parse_listen(text) == parsed


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60) | st.sampled_from(SETTINGS).map(lambda s: f"[{s.section}]\n{s.key}="))
def test_junk_is_an_error_with_a_sentence(text: str) -> None:
    try:
        parse(text, "config.toml")
    except ConfigError as error:
        assert str(error).startswith("config.toml")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s.section}.{s.key}")
def test_every_setting_refuses_a_wrong_type(setting: Any) -> None:
    wrong = "'x'" if setting.kind is not str else "1"
    with pytest.raises(ConfigError, match="line 2"):
        parse(f"[{setting.section}]\n{setting.key} = {wrong}\n", "config.toml")


def test_the_port_is_the_protocols() -> None:
    assert DEFAULT_PORT == PROTOCOL_PORT
