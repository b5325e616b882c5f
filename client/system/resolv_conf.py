"""The text of resolv.conf: what is read out of it, and ours.

Ours begins with a line that only we write, and says what was there before, so that no run, of
whatever instance, takes another's text for the original. What of the text before concerns the
network and not the servers stays in it: the domains in which short names are looked for, and
the resolver's options, but for `trust-ad`, which vouches for the servers (resolv.conf(5)).
"""

from __future__ import annotations

from dataclasses import dataclass

MARKER = "# Written by VPN Share while it is connected:"
BEFORE = "# Before it:"
NOTHING = "nothing"
LOST = """# VPN Share found an earlier run's text here, and not what was there before.
# Connect to your network anew, or name a resolver here: nameserver ADDRESS
"""
"""What is put back when nobody knows the original any more."""
MAX_LINE = 1024


@dataclass(frozen=True, slots=True)
class Original:
    """What our text stands in place of: a link to `link`, a file kept as `backup`, or nothing."""

    link: str | None = None
    backup: str | None = None

    def __str__(self) -> str:
        if self.link is not None:
            return f"link {self.link}"
        return NOTHING if self.backup is None else f"file {self.backup}"


def nameservers(text: str) -> list[str]:
    """The servers, as they are written."""
    words = (line.split() for line in text.splitlines())
    return [w[1] for w in words if len(w) >= 2 and w[0] == "nameserver"]


def manners(text: str) -> list[str]:
    """The lines that are about this network: the last of `search` and `domain`, all `options`."""
    domains, options = "", []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or len(line) > MAX_LINE or not " ".join(words).isprintable():
            continue
        if words[0] in ("search", "domain"):
            domains = " ".join(words)
        elif words[0] == "options":
            kept = [word for word in words[1:] if word != "trust-ad"]
            options += [" ".join(["options", *kept])] if kept else []
    return [*([domains] if domains else []), *options]


def compose(token: str, servers: list[str], before: str, original: Original) -> str:
    """Our text; `before` is the one whose manners it keeps. The token is at both ends."""
    lines = [f"{MARKER} {token}", f"{BEFORE} {original}"]
    lines += [f"nameserver {server}" for server in servers]
    return "\n".join([*lines, *manners(before), f"# {token}", ""])


def is_ours(text: str) -> bool:
    """Whether this is a text of ours, of whatever run and instance."""
    return text.startswith(MARKER)


def original_of(text: str) -> Original | None:
    """What a text of ours says was before it; None when it does not say."""
    for line in text.splitlines():
        if not line.startswith(BEFORE):
            continue
        kind, _, where = line.removeprefix(BEFORE).strip().partition(" ")
        if kind == "link" and where:
            return Original(link=where)
        if kind == "file" and where.startswith("/"):
            return Original(backup=where)
        if kind == NOTHING:
            return Original()
    return None
