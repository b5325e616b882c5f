"""The console's settings in the file, as they change under an open console."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.changes import Changes
from services.config import ConfigError, find
from services.console_settings import ConsoleSettings
from services.settings import write


def values(changes: Changes) -> dict[str, object]:
    assert changes.problem == ""
    return {setting.key: setting.value for setting in changes.settings}


def test_what_changes_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    own = ConsoleSettings(path)
    assert own.config.text("console", "theme") == ""
    assert own.look() == Changes()
    path.write_text('[console]\ntheme = "light"\nrefresh = 2\n[gateway]\nname = "x"\n')
    assert values(own.look()) == {"console.theme": "light", "console.refresh": 2.0}
    assert own.look() == Changes()
    write(path, find("console.bell"), False)
    assert values(own.look()) == {"console.bell": False}
    write(path, find("gateway.name"), "y")
    assert own.look() == Changes(), "another's setting"
    path.unlink()
    assert values(own.look()) == {
        "console.theme": "", "console.refresh": 1.0, "console.bell": True,
    }  # fmt: skip


def test_a_mistake_is_told_once_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[console]\ntheme = "light"\n')
    own = ConsoleSettings(path)
    path.write_text('[console]\ntheme = "li')
    found = own.look()
    assert found.settings == () and "Unterminated string" in found.problem
    assert own.look() == Changes()
    assert own.config.text("console", "theme") == "light"
    path.write_text('[console]\ntheme = "mono"\n')
    assert values(own.look()) == {"console.theme": "mono"}


def test_a_bad_file_at_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[console]\nbell = 3\n")
    with pytest.raises(ConfigError):
        ConsoleSettings(path)
