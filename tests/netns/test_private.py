"""`vpnshare run` by a user without any right: a command whose network is the tunnel, and only it.

Everything here is run as a user of the machine who has no capability and no password.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.outlet.namespace.enter import SIDE_DOORS
from control.exits import Exit
from tests.netns.capture import Capture
from tests.netns.conftest import opened
from tests.netns.exits import leaves_by_the_vpn
from tests.netns.processes import wait_for
from tests.netns.product import EXECUTABLE, PORT, Client, Gateway
from tests.netns.terminal import Terminal
from tests.netns.unprivileged import UID, User, mounts
from tests.netns.world import GATEWAY_LAN, SERVER, SERVER6, World

BESIDE = (
    f"(tcp or udp or icmp[0] == 8 or (icmp6 and ip6[40] == 128)) and not port {PORT}"
    " and not dst host 224.0.0.251 and not dst host ff02::fb"
)
"""On the device's own link: what programs send there, but for the tunnel, and the services'
announcements and questions for these."""
WAITS = "echo ready; exec sleep 60"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with opened() as world, world.serving(secure=False):
        yield world


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[Gateway]:
    with Gateway(world) as gateway:
        yield gateway.share()


@pytest.fixture(scope="module")
def user(world: World, gateway: Gateway) -> User:
    """Paired, and nothing runs."""
    user = User(world, "user")
    pairing = user.pair(gateway, "true")
    assert pairing.popen.wait(30) == 0, pairing.tail()
    user.wait_until_alone()
    return user


@pytest.fixture(scope="module")
def served(user: User) -> Iterator[User]:
    """The same with a network that stays between commands, by a service of the user's own."""
    service = user.start("client", "--private", name="client")
    wait_for((user.home / "client.sock").exists, "the service", 20)
    user.vpnshare("connect")
    yield user
    service.stop()


def system(world: World) -> dict[str, Any]:
    """All of the device that a command in a network of its own must leave as it is."""
    state = world.client.state()
    # The tunnel's own links come and go.
    del state["sockets"]
    folders = ("/etc", *SIDE_DOORS, str(world.directory))
    return {**state, "mounts": mounts(world.client, *folders)}


def test_a_command_is_run_and_nothing_else_is_changed(
    world: World, user: User, gateway: Gateway
) -> None:
    before = system(world)
    report = (
        'echo "$(id -u):$(id -g) $PWD"; grep -E "^(Cap|NoNew)" /proc/self/status;'
        f" echo mine >made; curl -sf -o /dev/null http://{SERVER}:8000/bytes/9 && echo reached;"
        " echo $VPNSHARE_RUN; sudo -n true; echo ready; read word; echo $word >&2; exit 7"
    )
    fifo = user.home / "words"
    os.mkfifo(fifo)
    argv = user.argv("sh", "-c", f"exec {EXECUTABLE} run -- sh -c '{report}' <words")
    command = user.host.start(argv, name="run", env=user.environment())
    with open(fifo, "w") as words:
        command.wait_for_log("ready", 30)
        said = command.tail(100)
        assert f"{UID}:{UID} {user.home}\n" in said and "reached" in said
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert f"{name}:\t0000000000000000" in said
        assert "NoNewPrivs:\t1" in said and '"no new privileges" flag' in said
        assert gateway.status()["name"] in said.splitlines()
        assert system(world) == before
        words.write("hello\n")
    assert command.popen.wait(10) == 7
    assert "hello" in command.tail(3)
    assert (user.home / "made").stat().st_uid == UID
    # It was started for the command, and ends with it.
    user.wait_until_alone()
    assert system(world) == before
    fifo.unlink()


def test_what_a_command_says_and_how_it_ends_are_its_own(served: User) -> None:
    assert served.status_of("run", "--", "sh", "-c", "echo out; echo err >&2; exit 42") == (
        42, "out\n", "err\n",
    )  # fmt: skip
    code, out, err = served.status_of("run", "nowhere-to-be-found", "--json")
    assert (code, out) == (Exit.NO_COMMAND, "") and "nowhere-to-be-found" in err
    code, out, err = served.status_of("run", "--", "/etc/passwd")
    assert (code, out) == (Exit.NOT_EXECUTABLE, "") and "vpnshare: " in err
    catches = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    sleeping = served.start("run", "--", "sh", "-c", catches)
    sleeping.wait_for_log("ready", 20)
    assert sleeping.stop() == 3 and "caught" in sleeping.tail()
    sleeping = served.start("run", "--", "sh", "-c", WAITS)
    sleeping.wait_for_log("ready", 20)
    assert sleeping.stop(signal.SIGKILL) == -signal.SIGKILL


@contextlib.contextmanager
def repository(world: World) -> Iterator[str]:
    """A git repository that the far server has, by plain HTTP."""
    folder = world.directory / "site"
    work = folder / "work"
    for words in (
        ["git", "init", "-q", str(work)],
        ["git", "-C", str(work), "-c", "user.name=x", "-c", "user.email=x@x.test", "commit", "-q",
         "--allow-empty", "-m", "first"],
        ["git", "-C", str(work), "update-server-info"],
    ):  # fmt: skip
        world.server.run(words)
    argv = [sys.executable, "-m", "http.server", "8090", "--bind", SERVER, "-d", str(folder)]
    server = world.server.start(argv, name="site")
    try:
        wait_for(lambda: _answers(world), "the repository's server")
        yield f"http://only4.test:8090/{work.name}/.git"
    finally:
        server.kill()


def _answers(world: World) -> bool:
    try:
        world.server.connect(SERVER, 8090, 1).close()
    except OSError:
        return False
    return True


def test_tools_work_and_nothing_goes_beside_the_tunnel(world: World, served: User) -> None:
    with (
        repository(world) as url,
        Capture.of(world.client, "lan0", BESIDE) as beside,
        world.leaks() as leaks,
    ):
        script = f"""set -e
            curl -sf -o /dev/null http://only4.test:8000/bytes/100000
            curl -sf -o /dev/null 'http://[{SERVER6}]:8000/bytes/100000'
            dig +short +time=5 server.test
            ping -c 2 -i 0.2 {SERVER} | grep ' 0% packet loss'
            ping -c 2 -i 0.2 {SERVER6} | grep ' 0% packet loss'
            git clone -q {url} cloned && git -C cloned log --format=%s
            getent hosts only4.test
            ! curl -s -m 3 http://{GATEWAY_LAN}:{PORT}/
            echo done"""
        code, out, err = served.status_of("run", "--", "sh", "-c", script)
        assert code == 0, out + err
        assert SERVER in out and "first" in out and out.endswith("done\n")
        assert beside.count() == 0, "\n".join(beside.lines()[:20])
        assert leaks.count() == 0, "\n".join(leaks.lines()[:20])


def test_a_check_asks_from_in_there(world: World, gateway: Gateway, served: User) -> None:
    leaves_by_the_vpn(
        world, gateway, served.home, "namespace", lambda: served.status_of("check", "--json")
    )


ABOUT_USERS = frozenset({0, 1, 2, 3, 11, 12, 15})
"""Requests to nscd that are for no host: GETPWBYNAME and others (nscd/nscd-client.h of glibc)."""


class Listener:
    """A Unix socket such as resolvers have; it counts who comes for a host, and hangs up."""

    def __init__(self, path: Path) -> None:
        self.came = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        path.chmod(0o666)
        self._socket.listen(16)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    connection.settimeout(5)
                    asked = connection.recv(12)
                    kind = int.from_bytes(asked[4:8], sys.byteorder) if len(asked) == 12 else None
                    self.came += kind not in ABOUT_USERS

    def close(self) -> None:
        # Wakes the thread, too.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


DRESSED = """set -e
mount --make-rprivate /
mount --bind "$1/etc" /etc
mount --bind "$1/run" /run
shift
exec "$@"
"""
"""A machine on which systemd-resolved and nscd answer by sockets."""


def test_names_are_not_asked_by_the_sockets_of_the_machine(world: World, served: User) -> None:
    folder = world.directory / "dressed"
    shutil.copytree("/etc", folder / "etc", symlinks=True, ignore_dangling_symlinks=True)
    run = folder / "run"
    for name in ("nscd", "systemd/resolve", "avahi-daemon"):
        (run / name).mkdir(parents=True)
    (run / "systemd/resolve/stub-resolv.conf").write_text(f"nameserver {GATEWAY_LAN}\n")
    resolv = folder / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    resolv.symlink_to("/run/systemd/resolve/stub-resolv.conf")
    (folder / "etc/nsswitch.conf").write_text("passwd: files\nhosts: files mdns4 resolve dns\n")
    listeners = [
        Listener(run / name)
        for name in ("nscd/socket", "systemd/resolve/io.systemd.Resolve", "avahi-daemon/socket")
    ]
    look = (
        "getent ahosts only4.test | head -1; cat /etc/resolv.conf; grep hosts /etc/nsswitch.conf;"
        " ls /run/nscd /run/systemd/resolve /run/avahi-daemon; readlink /etc/resolv.conf"
    )
    dress = ["unshare", "--mount", "sh", "-c", DRESSED, "sh", str(folder)]
    try:
        outside = user_run(served, dress, "sh", "-c", look)
        assert listeners[0].came > 0, outside
        for each in listeners:
            each.came = 0
        with Capture.of(world.client, "lan0", BESIDE) as beside:
            said = user_run(served, dress, str(EXECUTABLE), "run", "--", "sh", "-c", look)
            assert beside.count() == 0, "\n".join(beside.lines()[:20])
        assert [each.came for each in listeners] == [0, 0, 0]
        assert said.startswith(SERVER) and "hosts: files dns\n" in said
        assert f"nameserver {GATEWAY_LAN}\n" not in said and "io.systemd" not in said
        assert "passwd: files" in (folder / "etc/nsswitch.conf").read_text()
    finally:
        for each in listeners:
            each.close()


def user_run(user: User, before: list[str], *words: str) -> str:
    """What `words` write, run as the user on a machine that `before` has dressed."""
    done = user.host.run([*before, *user.argv(*words)], env=user.environment(), check=False)
    return done.stdout + done.stderr


def test_a_second_command_in_the_same_network(served: User) -> None:
    first = served.start("run", "--", "sh", "-c", "readlink /proc/self/ns/net; " + WAITS)
    first.wait_for_log("ready", 20)
    mine = os.readlink("/proc/self/ns/net")
    network = first.tail().splitlines()[0]
    joined = served.vpnshare("run", "--join", "--", "readlink", "/proc/self/ns/net").strip()
    assert joined == network != mine
    # From inside, it is there already.
    again = f"{EXECUTABLE} run --join -- readlink /proc/self/ns/net"
    assert served.vpnshare("run", "--", "sh", "-c", again).strip() == network
    first.stop()


def test_its_flows_are_seen(served: User) -> None:
    slow = served.start("run", "--", "curl", "-s", f"http://{SERVER}:8000/slow/100000")
    try:
        flows: list[dict[str, Any]] = []

        def seen() -> bool:
            flows[:] = json.loads(served.vpnshare("flows", "--role", "client", "--json"))["flows"]
            mine = [flow for flow in flows if flow["destination"] == f"{SERVER}:8000"]
            return any(flow["label"] == "curl" for flow in mine)

        wait_for(seen, "the flow, and whose it is", 15)
    finally:
        slow.kill()


def shaped(world: World, rate: str) -> None:
    """Have the far server send so fast, and no faster."""
    world.server.run(["tc", "qdisc", "replace", "dev", "net0", "root", "tbf", "rate", rate,
                      "burst", "128kb", "latency", "50ms"])  # fmt: skip


def test_a_download_lives_through_a_cut(world: World, served: User, gateway: Gateway) -> None:
    size = 12_000_000
    # Far from its end when it is cut, however busy the machine is.
    shaped(world, "4mbit")
    target = served.home / "download"
    before = json.loads(served.vpnshare("status", "--json"))["reconnects"]
    fetch = ("curl", "-sS", "--fail", "-o", str(target), f"http://{SERVER}:8000/bytes/{size}")
    loading = served.start("run", "--", *fetch)
    try:
        wait_for(lambda: target.exists() and target.stat().st_size > 100_000, "a beginning", 20)
        world.client.nft(
            "table inet cut { chain o { type filter hook output priority 0; "
            f"tcp dport {PORT} reject with tcp reset; udp dport {PORT} drop;\n}}\n}}"
        )
        wait_for(
            lambda: json.loads(served.vpnshare("status", "--json"))["state"] == "reconnecting",
            "the cut to be noticed", 20,
        )  # fmt: skip
        with Capture.of(world.client, "lan0", BESIDE) as beside:
            # Longer than a look takes: nothing finds another way.
            code, _, _ = served.status_of(
                "run", "--join", "--", "curl", "-s", "-m", "1", f"http://{SERVER}:8000/bytes/9"
            )
            assert code != 0
            assert beside.count() == 0, "\n".join(beside.lines()[:20])
        assert loading.running() and target.stat().st_size < size
        shaped(world, "400mbit")
        world.client.nft("delete table inet cut")
        assert loading.popen.wait(60) == 0, loading.tail()
    finally:
        world.client.run(["nft", "delete", "table", "inet", "cut"], check=False)
        world.server.run(["tc", "qdisc", "delete", "dev", "net0", "root"])
        loading.kill()
    assert json.loads(served.vpnshare("status", "--json"))["reconnects"] > before
    with open(world.directory / "random.bin", "rb") as sent:
        wanted = hashlib.sha256(sent.read(size)).digest()
    assert hashlib.sha256(target.read_bytes()).digest() == wanted


def test_a_terminal_is_the_commands_own(world: World, served: User) -> None:
    program = (
        "import os, signal, time\n"
        "def size(*_): print('size', *os.get_terminal_size(), flush=True)\n"
        "signal.signal(signal.SIGWINCH, size); size()\n"
        "while True:\n"
        "    try: time.sleep(60)\n"
        "    except KeyboardInterrupt: print('interrupted', flush=True); raise SystemExit(5)\n"
    )
    (served.home / "program.py").write_text(program)
    # A short name, which no edge of the screen cuts in two.
    start = served.home / "go"
    start.write_text(f"#!/bin/sh\nexec {EXECUTABLE} run -- {sys.executable} program.py\n")
    start.chmod(0o755)
    argv = served.host.argv(served.argv("bash", "--norc", "--noprofile"))
    with Terminal.running(world.directory, argv, served.environment(), 100, 30) as terminal:
        terminal.press("-l", "PS1='prompt> '; ./go")
        terminal.press("Enter")
        terminal.wait_for_text("size 100 30", 30)
        terminal.resize(90, 25)
        terminal.wait_for_text("size 90 25", 20)
        terminal.press("C-z")
        terminal.wait_for_text("Stopped", 20)
        terminal.press("-l", "fg")
        terminal.press("Enter")
        # The shell repeats the command's name when it goes on.
        wait_for(lambda: terminal.text().count("./go") >= 3, "it to go on", 20)
        terminal.resize(80, 24)
        terminal.wait_for_text("size 80 24", 20)
        terminal.press("C-c")
        terminal.wait_for_text("interrupted", 20)
        terminal.press("-l", "echo status $?")
        terminal.press("Enter")
        terminal.wait_for_text("status 5", 20)


def test_a_shell_has_a_sign(world: World, served: User) -> None:
    argv = served.host.argv(served.argv("env", "SHELL=/bin/bash", str(EXECUTABLE), "shell"))
    folder = world.directory / "shell"  # no server of tmux's has been there
    folder.mkdir()
    with Terminal.running(folder, argv, served.environment(), 100, 30) as terminal:
        terminal.wait_for_text("(vpnshare) ", 30)
        terminal.press(
            "-l", f"curl -s -o /dev/null -w 'got %{{http_code}}' http://{SERVER}:8000/bytes/9"
        )
        terminal.press("Enter")
        terminal.wait_for_text("got 200", 20)


def test_whoever_is_killed_the_machine_is_as_it_was(world: World, gateway: Gateway) -> None:
    """And the command never has the machine's network in the place of the tunnel."""
    other = User(world, "other")
    before = system(world)
    fetch = f"curl -s -m 1 -o /dev/null http://{SERVER}:8000/bytes/9"
    tries = f"while :; do {fetch} && echo reached || echo missed; sleep 0.1; done"
    command = other.pair(gateway, "sh", "-c", tries)
    command.wait_for_log("reached", 30)
    service = other.service()
    with Capture.of(world.client, "lan0", BESIDE) as beside, world.leaks() as leaks:
        os.kill(service, signal.SIGKILL)
        command.wait_for_log("missed", 20)
        missed = command.tail(10_000).count("missed")
        wait_for(lambda: command.tail(10_000).count("missed") > missed + 2, "more tries", 20)
        assert command.tail(1) == "missed" and command.running()
        assert beside.count() == 0, "\n".join(beside.lines()[:20])
        assert leaks.count() == 0
    assert system(world) == before
    # A new one goes on with the wish, in a network of its own; the first command has none.
    again = other.start("run", "--", "sh", "-c", WAITS)
    again.wait_for_log("ready", 30)
    assert command.tail(1) == "missed"
    again.kill()
    other.wait_until_alone()
    command.kill()
    assert system(world) == before


def test_without_a_network_there_is_none_to_join(world: World) -> None:
    lonely = User(world, "lonely")
    code, out, err = lonely.status_of("run", "--join", "--", "true")
    assert (code, out) == (Exit.NOT_RUNNING, "") and "vpnshare run -- COMMAND" in err


def test_where_a_client_has_the_whole_device_the_command_needs_none(
    world: World,
) -> None:
    with Client(world) as client:
        client.start()
        done = client.command("run", "--", "true", check=False)
        assert done.returncode == Exit.CONFLICT and done.stdout == ""
        assert "the whole device" in done.stderr and "Run the command as it is" in done.stderr
        assert client.status()["state"] == "idle"


REFUSING = """
import ctypes, os, platform, struct, sys
NUMBERS = {"x86_64": 272, "aarch64": 97}
libc = ctypes.CDLL(None, use_errno=True)
def instruction(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
program = b"".join((
    instruction(0x20, 0, 0, 0),  # the call's number
    instruction(0x15, 0, 1, NUMBERS[platform.machine()]),  # unshare
    instruction(0x06, 0, 0, 0x00050000 | 1),  # EPERM
    instruction(0x06, 0, 0, 0x7fff0000),
))
buffer = ctypes.create_string_buffer(program)
filter = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.c_char_p(filter), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a program that may not call unshare(2), as in a container."""
NO_NAMESPACES = (
    "echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --inh-caps=-all "
    '--ambient-caps=-all "$@"'
)


def forbidden(kind: str, user: User, *words: str) -> list[str]:
    """`words` as the user, where the system allows no network of one's own."""
    match kind:
        case "seccomp":
            return user.argv(sys.executable, "-c", REFUSING, *words)
        case "sysctl":
            within = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c"]
            return user.argv(*within, NO_NAMESPACES, "sh", *words)
        case _:
            hide = 'mount -t tmpfs none /dev/net; exec "$@"'
            return ["unshare", "--mount", "sh", "-c", hide, "sh", *user.argv(*words)]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("seccomp", "this is a container"),
        ("sysctl", "sudo sysctl user.max_user_namespaces="),
        ("tun", "/dev/net/tun"),
    ],
)
def test_where_it_is_forbidden_a_sentence_says_so(
    world: World, user: User, gateway: Gateway, kind: str, says: str
) -> None:
    other = User(world, kind)
    shutil.copy(user.home / "client.db", other.home / "client.db")
    os.chown(other.home / "client.db", UID, UID)
    argv = forbidden(kind, other, str(EXECUTABLE), "run", "--", "true")
    done = other.host.run(argv, env=other.environment(), check=False)
    assert done.returncode == Exit.FORBIDDEN, done.stderr
    assert done.stdout == "" and says in done.stderr and "sudo" in done.stderr
    other.wait_until_alone()
    if kind != "sysctl":
        return
    argv = forbidden(kind, other, str(EXECUTABLE), "doctor", "--role", "client", "--json")
    done = other.host.run(argv, env=other.environment(), check=False)
    (found,) = [each for each in json.loads(done.stdout) if each["id"] == "own-network"]
    assert found["status"] == "warn" and says in found["found"] + found["advice"]
