"""`connect --scan`: the camera's program stands in PATH, and says what the test lets it say."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import scanning
from control.errors import Code, ControlError
from control.exits import Exit
from tests.netns.processes import wait_for
from tests.services.conftest import serve
from tests.services.test_choosing import Lost
from tests.services.test_cli import GOOD, ROOT
from vshp.uri import MAX_TEXT


@pytest.fixture
def lost(home: Path) -> Iterator[Lost]:
    client = Lost()
    with serve(client, home / "client.sock"):
        yield client


class Camera:
    """A `zbarcam` that runs a shell script; `pid` is written where it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.path = f"{folder}:{os.environ['PATH']}"

    def shows(self, script: str) -> None:
        program = self.folder / "zbarcam"
        program.write_text(f'#!/bin/sh\necho "$@" >{self.folder}/argv\necho $$ >{self.folder}/pid\n'
                           f"{script}\n")  # fmt: skip
        program.chmod(0o755)

    @property
    def gone(self) -> bool:
        """Whether it has been ended."""
        pid = int((self.folder / "pid").read_text())
        return not Path(f"/proc/{pid}").exists()


@pytest.fixture
def camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Camera:
    camera = Camera(tmp_path / "bin")
    monkeypatch.setenv("PATH", camera.path)
    return camera


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "connect", "--scan", "--wait", "0", *words],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.skipif(not shutil.which("zbarimg"), reason="needs zbarimg")
def test_a_picture_before_the_camera_is_read(
    lost: Lost, camera: Camera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qrcode

    picture = tmp_path / "code.png"
    code = qrcode.QRCode(border=4, box_size=6)
    code.add_data(GOOD)
    code.make(fit=True)
    code.make_image().save(str(picture))
    # zbarimg takes no --nodisplay.
    camera.shows(f'for word; do case $word in --nodisplay) ;; *) set -- "$@" "$word" ;; esac; shift'
                 f'; done; zbarimg "$@" {picture}; exec sleep 60')  # fmt: skip
    done = command()
    assert done.returncode == Exit.OK, done.stderr
    assert lost.heard == [GOOD]
    assert GOOD[10:30] not in done.stdout + done.stderr, "it is a secret"
    assert camera.gone
    words = (camera.folder / "argv").read_text().split()
    assert words[:4] == ["--raw", "--quiet", "-Sdisable", "-Sqrcode.enable"]


def test_strangers_codes_are_passed_over_and_shown_clean(camera: Camera, capsys: object) -> None:
    camera.shows("printf 'https://example.org/\\033[31m\\n\\nVSHP:NONSENSE\\n'\n"
                 f"head -c {3 * MAX_TEXT} /dev/zero | tr '\\0' A\nprintf '{GOOD}\\n'\n"
                 f"echo {GOOD}\nexec sleep 60")  # fmt: skip
    assert scanning.scan() == GOOD
    assert isinstance(capsys, pytest.CaptureFixture)
    err = capsys.readouterr().err
    assert "That is another QR code: https://example.org/" in err and "\x1b[31m" not in err
    assert "VSHP:NONSENSE" in err and "A pairing code was read." in err
    assert camera.gone


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'ERROR: opening video device: No such file' >&2; exit 1", "opening video device"),
        ("exit 0", "closed before a pairing code was seen"),
        ("echo VSHP:HALF; exit 0", "closed before"),
    ],
)
def test_a_camera_that_ends_is_told(camera: Camera, script: str, said: str) -> None:
    camera.shows(script)
    with pytest.raises(ControlError) as caught:
        scanning.scan()
    assert said in caught.value.message
    assert caught.value.code == Code.FAILED and "vpnshare connect -" in (caught.value.hint or "")


def test_a_camera_that_sees_nothing_is_let_go(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "SCAN_SECONDS", 0.1)
    camera.shows("exec sleep 60")
    with pytest.raises(ControlError) as caught:
        scanning.scan()
    assert caught.value.code == Code.TIMED_OUT


def test_without_the_program_its_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ControlError) as caught:
        scanning.scan()
    assert "Install the package zbar-tools." in (caught.value.hint or "")


def test_ctrl_c_lets_go_of_the_camera(lost: Lost, camera: Camera) -> None:
    camera.shows("exec sleep 60")
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "connect", "--scan"], cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    pid = camera.folder / "pid"
    wait_for(lambda: pid.exists() and pid.read_text().strip(), "the camera to be opened", 30.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED and b"Traceback" not in err
    assert camera.gone and lost.heard == []


def test_it_names_the_gateway_alone(lost: Lost, camera: Camera) -> None:
    camera.shows("exec sleep 60")
    done = command("10.1.0.1")
    assert done.returncode == Exit.USAGE and "Leave one of them out" in done.stderr
    assert not (camera.folder / "pid").exists()
