"""`vpnshare shell`: a shell's prompt begins with the sign, and the user's own files are read."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cli import private

SHOWS = {
    "bash": ("-i", "-c", 'echo "$PS1"; echo $MINE'),
    "zsh": ("-i", "-c", '$precmd_functions; $precmd_functions; print -r -- "$PROMPT"; echo $MINE'),
    "fish": ("-i", "-c", "fish_prompt; echo; echo $MINE"),
}
RC = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_prompt_begins_with_the_sign(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = shutil.which(name)
    if shell is None:
        pytest.skip(f"needs {name}")
    home = tmp_path / "home"
    rc = home / RC[name]
    rc.parent.mkdir(parents=True)
    rc.write_text("set -gx MINE read\n" if name == "fish" else "MINE=read; PS1='mine> '\n")
    for variable in ("ZDOTDIR", "XDG_CONFIG_HOME", "VPNSHARE_ZDOTDIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("VPNSHARE_HOME", str(tmp_path))
    monkeypatch.setenv("VPNSHARE_SIGN", private.SIGN)
    words = private._with_sign(shell)
    done = subprocess.run(
        [*words, *SHOWS[name]], env=os.environ | {"TERM": "dumb"}, start_new_session=True,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    prompt, mine = done.stdout.splitlines()[:2]
    assert prompt.startswith(private.SIGN) and prompt.count(private.SIGN.strip()) == 1
    assert mine == "read"


def test_another_shell_has_it_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PS1", "x")
    assert private._with_sign("/bin/sh") == ["/bin/sh"]
    assert os.environ["PS1"].startswith(private.SIGN)
