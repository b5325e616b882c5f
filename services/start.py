"""How a Python with our code is started, and what such a Python runs first.

    python -I services/start.py MODULE ARGUMENTS

Isolated (`-I`): neither the folder where the user happens to stand, nor
PYTHONPATH, nor the user's own site-packages have a say in what is imported, as
root at that. An isolated Python finds only what is installed; a child has to be
of the same tree as its parent, whatever else is installed under our names.
"""

from __future__ import annotations

import sys


def python(*words: str) -> list[str]:
    """The command that has this Python do something of its own, pip say."""
    return [sys.executable, "-I", *words]


def isolated(module: str, *words: str) -> list[str]:
    """The command that runs a module of ours."""
    # A child leaves no compiled files behind if we were told by -B to leave none.
    silent = ["-B"] if sys.flags.isolated and sys.flags.dont_write_bytecode else []
    return [sys.executable, "-I", *silent, __file__, module, *words]


def own_command() -> list[str]:
    """How this very installation's `vpnshare` is run, absolute."""
    return isolated("cli.main")


def own_network_maker() -> list[str]:
    """The command that makes a network of its own for an unprivileged client."""
    return isolated("client.outlet.namespace.maker")


RENAMED = {"services.cli.main": "cli.main"}
"""Modules by the names that units and boot scripts of 0.2.0 and before it begin."""

if __name__ == "__main__":
    import runpy
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    del sys.argv[0]
    sys.argv[0] = RENAMED.get(sys.argv[0], sys.argv[0])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
