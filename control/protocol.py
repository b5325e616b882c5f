"""What both ends of a control connection over a command's streams agree on."""

from __future__ import annotations

GREETING = b"vpnshare-control 1"
"""The line after which the protocol begins; what comes before it is a shell's."""
