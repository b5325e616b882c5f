"""Users of the machine that a test makes, with an empty home, and takes away again."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.netns.processes import wait_for


@dataclass(frozen=True)
class Person:
    name: str
    password: str

    @property
    def home(self) -> Path:
        return Path("/home") / self.name

    def argv(self, *words: str, **env: str) -> list[str]:
        """The command line that runs `words` as this user, with these variables."""
        return ["setpriv", f"--reuid={self.name}", f"--regid={self.name}", "--init-groups", "env",
                f"HOME={self.home}", *(f"{name}={value}" for name, value in env.items()),
                *words]  # fmt: skip


@contextlib.contextmanager
def somebody(kind: str, sudo: bool) -> Iterator[Person]:
    """A new user, who may use sudo with their password or may not."""
    person = Person(f"vp{kind}{os.getpid() % 100000}", secrets.token_hex(8))
    rule = Path("/etc/sudoers.d") / person.name
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", person.name], check=True)
    try:
        said = f"{person.name}:{person.password}"
        subprocess.run(["chpasswd"], input=said, text=True, check=True)
        if sudo:
            rule.write_text(f"{person.name} ALL=(ALL:ALL) PASSWD: ALL\n")
            rule.chmod(0o440)
        yield person
    finally:
        rule.unlink(missing_ok=True)
        # userdel refuses while one of theirs runs.
        wait_for(lambda: _has_left(person), "the last process of theirs to be gone")
        subprocess.run(["userdel", "--remove", person.name], check=True, capture_output=True)


def _has_left(person: Person) -> bool:
    return subprocess.run(["pgrep", "-u", person.name], capture_output=True).returncode == 1
