"""Answers that lead to a name which a client's rules refuse: pure.

A refused name is not asked for, whatever the type of the question. But another name may be an
alias of it (CNAME, DNAME, and what service bindings name, RFC 9460), and the answer then holds
what the refused one would have been answered. What stands beside the answer (addresses in the
additional section) is left out where it belongs to such a name.

A name that is merely mentioned, as of a mail or name server, is no address: it has to be asked
for in turn, and is refused then.
"""

from __future__ import annotations

from gateway.dns.judging import Where
from netstack.dns import Answer, MalformedMessage, named
from rules.destinations import NameRules


def judge_names(rules: NameRules, name: bytes, wire: bytes, answer: Answer) -> Where:
    """Look at every name that the answer to `name` leads to, and at `name` itself: the rules may
    be others than when it was asked for."""
    if rules.refuse(name):
        return Where.INSIDE
    try:
        leads, beside = named(wire, answer)
    except MalformedMessage:
        return Where.INSIDE  # Not readable here; another reader may make a name of it.
    if any(rules.refuse_alias(name, lead) for lead in leads):
        return Where.INSIDE
    if any(rules.refuse_alias(name, other) for other in beside):
        return Where.BESIDE
    return Where.NOWHERE
