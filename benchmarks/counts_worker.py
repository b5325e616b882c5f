"""A service that counts the Python that it executes, for `counts.py`.

    counts_worker.py TREE FILE ARGUMENTS

is `vpnshare ARGUMENTS` of the checkout TREE. At the first SIGUSR2 it begins to count, at the next
it ends and writes FILE: by function, how often it was called and how many instructions of bytecode
it took, in JSON. Run with the Python of the checkout.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ENTRANCES = ("cli/main.py", "services/cli/main.py")
"""Where the command may be in a checkout."""


class Count:
    """Instructions and calls by code."""

    def __init__(self, tree: Path, file: Path) -> None:
        self._tree, self._file = tree, file
        self._on = False
        self._calls: Counter[CodeType] = Counter()
        self._instructions: Counter[CodeType] = Counter()

    def switch(self, number: int, frame: FrameType | None) -> None:
        self._on = not self._on
        sys.settrace(self._called if self._on else None)
        while frame is not None:
            # Those that run already, or they would be counted from their next call on.
            frame.f_trace = self._executed if self._on else None
            frame.f_trace_lines, frame.f_trace_opcodes = not self._on, self._on
            frame = frame.f_back
        if not self._on:
            self._write()

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        self._calls[frame.f_code] += 1
        return self._executed

    def _executed(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self._instructions[frame.f_code] += 1
        return self._executed

    def _write(self) -> None:
        found = []
        for code, count in self._instructions.items():
            path = Path(code.co_filename)
            if path.is_relative_to(self._tree):
                path = path.relative_to(self._tree)
            found.append((f"{path}:{code.co_qualname}", self._calls[code], count))
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(found))
        part.rename(self._file)


def main() -> None:
    tree, file = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    del sys.argv[1:3]
    sys.path[0] = str(tree)
    signal.signal(signal.SIGUSR2, Count(tree, file).switch)
    entrance = next(entrance for entrance in ENTRANCES if (tree / entrance).exists())
    module = entrance.removesuffix(".py").replace("/", ".")
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
