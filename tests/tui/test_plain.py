"""ASCII only means every cell, whoever draws it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control import schema
from tests.fakes.services import request
from tests.tui.conftest import OpenConsole
from tui.screens.sections import SCREENS


@pytest.mark.parametrize(("role", "section"), list(SCREENS))
@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_every_section_is_ascii(
    console: OpenConsole, role: str, section: str, size: tuple[int, int]
) -> None:
    async with console(role, section=section, size=size, ascii=True) as c:
        c.gateway.waiting = [request()]
        c.gateway.changed("requests")
        await c.settle()
        assert [line for line in c.text.splitlines() if not line.isascii()] == []
        assert all(len(line) == size[0] for line in c.text.splitlines())


async def test_questions_help_and_messages_are_ascii(console: OpenConsole) -> None:
    async with console(section="peers", ascii=True) as c:
        for keys in (
            ("x", "escape"),
            ("question_mark", "escape"),
            ("t", "escape"),
            ("y",),
            ("colon",),
        ):
            await c.press(*keys[:1])
            assert c.text.isascii(), keys
            await c.press(*keys[1:])


async def test_the_setting_counts_at_once_and_names_keep_their_script(
    console: OpenConsole,
) -> None:
    async with console() as c:
        assert "╭" in c.text
        c.gateway.leases = [replace(c.gateway.leases[0], label="Tablette à moi")]
        c.gateway.changed("leases")
        setting = schema.Setting("console.ascii", True, False, "bool", "", "file", True)
        c.app.follow_setting(setting)
        await c.settle()
        assert "╭" not in c.text
        assert "Tablette à moi" in c.text
        c.app.follow_setting(replace(setting, value=False))
        await c.settle()
        assert "╭" in c.text
