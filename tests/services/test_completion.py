"""`vpnshare completion SHELL` in the shells, and the names that it asks for."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cli.commands import COMMANDS, Command, parser_for
from cli.completing import KINDS, SHELLS
from cli.main import main
from control import schema
from control.exits import Exit
from packages import completions
from tests.fakes.services import PretendClient, PretendGateway

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]
BASH = """
source <("$PROGRAM" completion bash) || exit 1
complete_line() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMPREPLY=()
    COMP_POINT=${#COMP_LINE}
    $(complete -p vpnshare | sed 's/.* -F \\([^ ]*\\) .*/\\1/') vpnshare "${@: -1}"
    echo "${COMPREPLY[@]}"
}
"""
NEEDS = {shell: pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell} here")
         for shell in SHELLS}  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
def test_the_files_are_of_these_commands(shell: str, capsys: Capture) -> None:
    assert main(["completion", shell]) == Exit.OK
    text = capsys.readouterr().out
    assert text == completions.script(shell), "run: python -m packages.completions"
    for command in COMMANDS:
        assert not command.group or command.name in text


def test_the_shell_is_the_one_that_runs(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert main(["completion"]) == Exit.OK
    assert "complete -c vpnshare" in capsys.readouterr().out
    monkeypatch.setenv("SHELL", "/bin/dash")
    assert main(["completion"]) == Exit.USAGE
    assert "vpnshare completion bash" in capsys.readouterr().err


def test_what_is_explained_to_the_shells_is_there() -> None:
    known = {
        (command.name, action.dest)
        for command in COMMANDS
        for action in parser_for(command)._actions
    }
    told = (*completions.ASKED, *completions.LISTED, *completions.FILES, *completions.FOLDERS)
    assert set(told) <= known
    assert set(completions.ASKED.values()) == set(KINDS)
    shells = next(a for a in parser_for(_command("completion"))._actions if a.dest == "shell")
    kinds = next(a for a in parser_for(_command("completion"))._actions if a.dest == "names")
    assert tuple(shells.choices or ()) == SHELLS and tuple(kinds.choices or ()) == KINDS


def _command(name: str) -> Command:
    return next(command for command in COMMANDS if command.name == name)


@pytest.fixture
def program(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command in PATH, of this instance."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "vpnshare"
    python = shlex.quote(sys.executable)
    path.write_text(f'#!/bin/sh\ncd {ROOT} && exec {python} -m cli.main "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("PROGRAM", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return path


def _shell(argv: list[str], script: str) -> list[str]:
    done = subprocess.run(
        [*argv, script], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.splitlines()


@NEEDS["bash"]
def test_bash_completes(program: Path, gateway: PretendGateway) -> None:
    gateway.peers = [replace(gateway.peers[0], id="a1b2", label="tablet")]
    lines = ["vpnshare sta", "vpnshare status --ro", "vpnshare status --role ''",
             "vpnshare get gateway.na", "vpnshare watch pe", "vpnshare revoke t",
             "vpnshare flows --peer ''"]  # fmt: skip
    script = BASH + "\n".join(f"complete_line {line}" for line in lines)
    assert _shell(["bash", "--norc", "-c"], script) == [
        "status", "--role", "gateway client", "gateway.name", "peers", "tablet", "tablet",
    ]  # fmt: skip


@NEEDS["fish"]
def test_fish_completes(program: Path, gateway: PretendGateway) -> None:
    gateway.peers = [replace(gateway.peers[0], id="a1b2", label="tablet")]
    lines = ["vpnshare sta", "vpnshare status --ro", "vpnshare get gateway.na", "vpnshare revoke t"]
    script = "$PROGRAM completion fish | source\n" + "\n".join(
        f"complete -C {shlex.quote(line)}" for line in lines
    )
    found = [line.split("\t")[0] for line in _shell(["fish", "--no-config", "-c"], script)]
    assert found == ["status", "--role", "gateway.name", "tablet"]


@NEEDS["zsh"]
def test_zsh_takes_it(program: Path) -> None:
    """As a file of a folder in fpath."""
    script = (
        "mkdir $HOME/f; $PROGRAM completion zsh >$HOME/f/_vpnshare; zsh -n $HOME/f/_vpnshare; "
        "fpath=($HOME/f $fpath); autoload -U compinit; compinit -u -D; "
        "print $_comps[vpnshare]"
    )
    assert _shell(["zsh", "-f", "-c"], script) == ["_vpnshare"]


def test_names_are_single_words(
    gateway: PretendGateway, client: PretendClient, capsys: Capture
) -> None:
    first = gateway.peers[0]
    labels = ["tablet", "twice", "twice", "Living room TV", "$(reboot)", "-n", "töpfe", "a.b-c"]
    gateway.peers = [
        replace(first, id=f"id{number}", label=label) for number, label in enumerate(labels)
    ]
    request = schema.Request("3f", "x", "android", None, "lan", "10.1.0.9", "0f0f", 1.0, 60.0)
    gateway.waiting = [request]
    assert main(["completion", "--names", "devices"]) == Exit.OK
    assert capsys.readouterr().out.split() == [
        "tablet", "id1", "id2", "id3", "id4", "id5", "id6", "a.b-c",
    ]  # fmt: skip
    assert main(["completion", "--names", "requests"]) == Exit.OK
    assert capsys.readouterr().out.split() == ["3f"]
    assert main(["completion", "--names", "gateways"]) == Exit.OK
    first_words = [each.fingerprint.split()[0] for each in client.gateways]
    assert capsys.readouterr().out.split() == first_words, "their names have blanks"


def test_nothing_is_said_where_nothing_runs(home: Path, capsys: Capture) -> None:
    for kind in KINDS:
        assert main(["completion", "--names", kind]) == Exit.OK
    shown = capsys.readouterr()
    assert shown.out.split() == [] and shown.err == ""


def test_the_manual_has_every_command_and_option(capsys: Capture) -> None:
    assert main(["manual"]) == Exit.OK
    page = capsys.readouterr().out
    assert page.startswith(".TH VPNSHARE 1 ")
    for command in COMMANDS:
        if not command.group:
            continue
        section = page.partition(f"\n.B {command.name}\n")[2].partition("\n.TP\n")[0]
        for action in parser_for(command)._actions:
            for option in action.option_strings:
                assert action.dest == "help" or option.replace("-", "\\-") in section, option
