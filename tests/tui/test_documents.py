"""The registry, and the documents that are made from it."""

from __future__ import annotations

import re
from pathlib import Path

from tui import actions, themes
from tui.app import ConsoleApp
from tui.screens.log import LogScreen
from tui.screens.sections import SCREENS

PROJECT = Path(__file__).parents[2]
DOCUMENT = PROJECT / "docs" / "console.md"
README = PROJECT / "README.md"


def test_the_documents_key_table_is_the_registrys() -> None:
    assert actions.table() in DOCUMENT.read_text()


def test_the_readmes_key_table_is_the_registrys() -> None:
    assert actions.table(everywhere_only=True) in README.read_text()


def test_the_documents_pictures_are_there_and_small() -> None:
    shown = set(re.findall(r"docs/(pictures/[\w-]+\.svg)", README.read_text()))
    shown |= set(re.findall(r"\((pictures/[\w-]+\.svg)\)", DOCUMENT.read_text()))
    shown.remove("pictures/tour.svg")  # it moves; tests/docs has its bound
    assert len(shown) >= 4
    for name in shown:
        picture = (DOCUMENT.parent / name).read_text()
        assert len(picture) < 150 * 1024, name
        assert "http://" not in picture.replace("http://www.w3.org", ""), name
        assert "https://" not in picture, name


def test_the_document_names_every_variable_of_a_theme() -> None:
    text = DOCUMENT.read_text()
    assert [name for name in themes.VARIABLES if f"`{name}`" not in text] == []
    assert set(themes.variable_defaults()) == set(themes.VARIABLES)


def test_every_action_has_a_method() -> None:
    for action in actions.ACTIONS:
        owners: list[type] = [ConsoleApp]
        if action.scope != actions.EVERYWHERE:
            owners = [
                screen if isinstance(screen, type) else LogScreen
                for (role, section), screen in SCREENS.items()
                if section == action.scope and role in action.roles
            ]
        for owner in owners:
            assert callable(getattr(owner, f"action_{action.method}", None)), action.id


def test_every_section_has_a_screen() -> None:
    for role in ("gateway", "client"):
        for section in actions.sections(role):
            assert (role, section.id) in SCREENS


def test_what_is_dangerous_also_writes() -> None:
    assert all(action.write for action in actions.ACTIONS if action.danger)


def test_the_keys_as_they_are_do_not_clash() -> None:
    everything = {action.id: action.key for action in actions.ACTIONS}
    assert actions.keymap_problems(everything) == []
