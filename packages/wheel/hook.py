"""What goes into the wheel, and under which name (a build hook of hatchling's)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NOT_RUN = ("benchmarks", "tests")


class Wheel(BuildHookInterface[BuilderConfig]):
    """One name in site-packages, with the rooms below it: found, not listed."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        for path in root.glob("*/__init__.py"):
            room = path.parent.name
            if room not in NOT_RUN:
                build_data["force_include"][str(path.parent)] = f"vpnshare/rooms/{room}"
        for name in ("__init__.py", "__main__.py"):
            build_data["force_include"][str(root / "packages/wheel" / name)] = f"vpnshare/{name}"
