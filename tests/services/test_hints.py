"""Every hint that names a command: the command is there, it can be pasted, and it runs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.commands import COMMANDS, parser_for
from cli.main import main
from control import calling
from control import schema as s
from control.errors import ControlError
from control.exits import Exit
from services.start import own_command
from tests.fakes.ports import free_port
from tests.services import hints

CALLED = "./vpnshare"
HINTS = hints.everywhere()
NOT_RUN = frozenset({
    "bundle", "client", "completion", "connect", "console", "demo", "down", "gateway", "join",
    "leave", "manual", "restart", "run", "service", "shell", "up", "watch",
})  # fmt: skip
"""They change the machine, stay, or print a text for other programs: their words are parsed and
no more."""
NO_SINK = frozenset({"print", "write", "paint", "Text", "append", "assemble", "prose", "span"})
"""What puts a text before a person's eyes as it is."""


def _parsed(words: str) -> list[str]:
    """The command's words. Raises `AssertionError` where the real parser takes no such thing."""
    split = shlex.split(words)
    command = next(c for c in COMMANDS if c.name == split[0])
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parser_for(command).parse_args(split[1:])
    except SystemExit:
        raise AssertionError(said.getvalue().splitlines()[-1]) from None
    return split


def test_every_hint_is_a_command_that_the_parser_takes() -> None:
    assert len(HINTS) > 150 and {hint.words.split()[0] for hint in HINTS} >= {"join", "up", "pair"}
    wrong = []
    for hint in HINTS:
        if hint.words.split()[0] in ("COMMAND", "--help"):
            continue
        try:
            _parsed(hint.words)
        except (AssertionError, ValueError) as error:
            wrong.append((hint.place, hint.words, str(error)))
    assert wrong == []


def test_what_is_spelled_anew_is_every_command_but_the_one_for_programs() -> None:
    known = calling.RECEIVING | calling.SHARING | calling.EITHER
    assert known == {command.name for command in COMMANDS} - {"control"}
    odd = {
        match[0]
        for room in hints.ROOMS
        for path in (hints.ROOT / room).rglob("*.py")
        for _, text, _ in hints.sentences(path)
        for match in hints.UNTOLD.finditer(text)
        if not calling.COMMAND.match(text, match.start())
    }
    # The program's name in other sentences; x is what a sentence puts in.
    assert odd == {"vpnshare control", "vpnshare is", "vpnshare x"}


def test_no_hint_goes_round_the_spelling() -> None:
    """Straight to a terminal goes no command's name; the console's own words hold none."""
    round_it = [
        (hint.place, hint.words, hint.sink)
        for hint in HINTS
        if hint.place.startswith("tui/")
        or (hint.sink in NO_SINK and "cli/trying.py" not in hint.place)
    ]
    assert round_it == []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an instance whose gateway runs, and its client, where that may be."""
    home = tmp_path_factory.mktemp("hints")
    env = {"PATH": os.environ["PATH"], "VPNSHARE_HOME": str(home), "VPNSHARE_CALLED": CALLED,
           "HOME": str(home)}  # fmt: skip
    (home / "config.toml").write_text("[gateway]\nannounce = false\n[notify]\nenabled = false\n")
    roles = [["gateway", f"--listen=127.0.0.1:{free_port()}"]]
    if os.geteuid() == 0:
        roles.append(["client"])
    started = [
        subprocess.Popen([*own_command(), *words], env=env, cwd=home, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
        for words in roles
    ]  # fmt: skip
    try:
        for words in roles:
            _run(env, ["status", "--role", words[0]], expect=Exit.OK, tries=200)
        yield env
    finally:
        for process in started:
            process.terminate()
            process.wait(20)


def _run(
    env: dict[str, str], words: list[str], expect: int | None = None, tries: int = 1
) -> subprocess.CompletedProcess[str]:
    for _ in range(tries):
        done = subprocess.run(
            [*own_command(), *words], env=env, cwd=env["VPNSHARE_HOME"], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if expect is None or done.returncode == expect:
            return done
    raise AssertionError(done.stderr)


def test_every_hint_runs(running: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """None is a usage error or a trace; and what it says in its turn can be pasted, too."""
    for name in running:
        monkeypatch.setenv(name, running[name])
    monkeypatch.chdir(running["VPNSHARE_HOME"])
    said_somewhere = [hint for hint in HINTS if "cli/commands.py" not in hint.place]
    order = sorted({hint.words for hint in said_somewhere if not _stays(hint.words)})
    assert len(order) > 25
    for text in order:
        # Who asks for a word is given one.
        monkeypatch.setattr(sys, "stdin", io.StringIO("word\n" if text.endswith(" -") else ""))
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            code = main(_parsed(text))
        said = out.getvalue()
        assert code != Exit.USAGE, f"{text}: {said}"
        assert "Traceback" not in said and "failed unexpectedly" not in said, f"{text}: {said}"
        bare = calling.COMMAND.search(said)
        assert bare is None, f"{text} names {bare and bare[0]!r}: {said}"


def _stays(words: str) -> bool:
    first = words.split()[0]
    return first in (*NOT_RUN, "COMMAND", "--help") or " -f" in words or "--wait" in words


def test_what_is_not_running_is_said_with_what_to_paste(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "VPNSHARE_HOME": str(tmp_path), "VPNSHARE_CALLED": CALLED,
           "HOME": str(tmp_path)}  # fmt: skip
    done = _run(env, ["requests"], expect=Exit.NOT_RUNNING)
    assert "Start sharing with: ./vpnshare up" in done.stderr
    done = _run(env, ["gateways"], expect=Exit.NOT_RUNNING)
    assert "./vpnshare join" in done.stderr
    findings = json.loads(_run(env, ["doctor", "--json", "--role", "gateway"]).stdout)
    [absent] = [each for each in findings if each["id"] == "gateway-service"]
    assert absent["advice"] == "./vpnshare up"
    for words in ("approve --help", "--help", "stauts"):
        done = _run(env, words.split())
        assert not calling.COMMAND.search(done.stdout + done.stderr), done.stdout
        assert CALLED in done.stdout + done.stderr


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Somebody who called ./vpnshare, without rights, in an instance of the system's place."""
    monkeypatch.setenv("VPNSHARE_CALLED", CALLED)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("VPNSHARE_HOME", raising=False)
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    yield monkeypatch


def test_sudo_where_the_service_is_roots(person: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spelled = calling.pasted
    assert spelled("Stop it: vpnshare disconnect.") == "Stop it: sudo ./vpnshare disconnect."
    assert spelled("vpnshare join, vpnshare status") == "./vpnshare join, ./vpnshare status"
    assert spelled("sudo vpnshare demo") == "sudo ./vpnshare demo"
    (tmp_path / "vpnshare").mkdir()
    (tmp_path / "vpnshare" / "client.sock").touch()
    assert spelled("vpnshare disconnect") == "./vpnshare disconnect", "their own service"
    person.setattr(os, "geteuid", lambda: 0)
    assert spelled("sudo vpnshare demo") == "./vpnshare demo", "root needs no sudo"
    person.setenv("SUDO_UID", "1000")
    assert spelled("vpnshare status") == "sudo ./vpnshare status"
    person.setenv("VPNSHARE_HOME", "/srv/a b")
    expected = "sudo VPNSHARE_HOME='/srv/a b' ./vpnshare status"
    assert spelled("vpnshare status") == expected
    assert spelled(expected) == expected, "once is enough"
    assert spelled("vpnshare pair") == "./vpnshare pair", "no gateway here: on another machine"


@pytest.mark.parametrize(
    "text",
    ["vpnshare.db", "/opt/vpnshare status", "~/.local/bin/vpnshare up", "pip install vpnshare",
     "vpnshare control", "my-vpnshare pair", "vpnshare paired"],
)  # fmt: skip
def test_other_words_stay(person: pytest.MonkeyPatch, text: str) -> None:
    assert calling.pasted(text) == text


def test_the_sentences_of_records_and_errors_are_spelled(person: pytest.MonkeyPatch) -> None:
    finding = s.Finding("x", "vpnshare up", "both", "warn", "Off.", "vpnshare share")
    (told,) = calling.spoken(list[s.Finding], [finding])
    assert (told.advice, told.title) == ("./vpnshare share", "vpnshare up")
    switch = s.KillSwitch("holding", opened_by="vpnshare disconnect")
    assert calling.spoken(s.KillSwitch, switch).opened_by == "sudo ./vpnshare disconnect"
    assert calling.spoken(s.Flows, flows := s.Flows(0, [])) is flows
    error = ControlError(1, "No.", "vpnshare doctor").pasted()
    assert error.hint == "./vpnshare doctor"


def test_the_collector_sees_what_it_has_to(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text('"""vpnshare up"""\nprint("Do: vpnshare pair. Then: vpnshare approve ID")\n'
                    'tell(f"a {role}: vpnshare logs --role {role}")\n')  # fmt: skip
    found = [(text, sink) for _, text, sink in hints.sentences(path)]
    assert [sink for _, sink in found] == ["print", "tell"]
    assert [hints.commands_in(text) for text, _ in found] == [
        ["pair", "approve a1b2"], ["logs --role gateway"],
    ]  # fmt: skip
