"""The schemas of the stores: the scripts by which each version is reached from the one before."""

from __future__ import annotations

_COMMON = """
CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""

MIGRATIONS: dict[str, list[str]] = {
    "gateway": [
        _COMMON
        + """
CREATE TABLE peer (
    public_key BLOB PRIMARY KEY,
    label TEXT NOT NULL,
    platform TEXT NOT NULL,
    first_seen REAL NOT NULL,
    last_seen REAL NOT NULL,
    revoked INTEGER NOT NULL,
    from_tunnel INTEGER NOT NULL,
    to_tunnel INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE lease_number (number INTEGER PRIMARY KEY, public_key BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE usage (
    public_key BLOB NOT NULL,
    day TEXT NOT NULL,
    from_tunnel INTEGER NOT NULL,
    to_tunnel INTEGER NOT NULL,
    PRIMARY KEY (public_key, day)
) STRICT, WITHOUT ROWID;
""",
        """
ALTER TABLE peer ADD COLUMN kind TEXT NOT NULL DEFAULT 'vshp';
CREATE TABLE sighting (
    public_key BLOB PRIMARY KEY,
    told TEXT NOT NULL,
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    interface TEXT NOT NULL,
    local TEXT NOT NULL,
    heard REAL NOT NULL
) STRICT, WITHOUT ROWID;
""",
        """
CREATE TABLE offer (
    public_key BLOB PRIMARY KEY,
    label TEXT NOT NULL,
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    expires REAL NOT NULL,
    renews BLOB,
    invites INTEGER NOT NULL,
    approved INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
""",
        """
CREATE TABLE rules (public_key BLOB PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
""",
        # Days become numbers (`date.toordinal`), and the devices' sums go to where days are.
        """
CREATE TABLE book (
    public_key BLOB NOT NULL,
    span TEXT NOT NULL,
    at INTEGER NOT NULL,
    from_tunnel INTEGER NOT NULL,
    to_tunnel INTEGER NOT NULL,
    PRIMARY KEY (public_key, span, at)
) STRICT, WITHOUT ROWID;
INSERT INTO book
    SELECT public_key, 'day', CAST(julianday(day) - 1721424.5 AS INTEGER), from_tunnel, to_tunnel
    FROM usage WHERE julianday(day) IS NOT NULL;
INSERT INTO book
    SELECT public_key, 'total', 0, from_tunnel, to_tunnel FROM peer
    WHERE from_tunnel > 0 OR to_tunnel > 0;
DROP TABLE usage;
CREATE TABLE device (
    public_key BLOB PRIMARY KEY,
    label TEXT NOT NULL,
    platform TEXT NOT NULL,
    first_seen REAL NOT NULL,
    last_seen REAL NOT NULL,
    revoked INTEGER NOT NULL,
    kind TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO device
    SELECT public_key, label, platform, first_seen, last_seen, revoked, kind FROM peer;
DROP TABLE peer;
ALTER TABLE device RENAME TO peer;
""",
    ],
    "client": [
        _COMMON
        + """
CREATE TABLE gateway (
    public_key BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    endpoints TEXT NOT NULL,
    last_seen REAL NOT NULL,
    resume BLOB
) STRICT, WITHOUT ROWID;
"""
    ],
}
"""By role; a file's version says how many of them it has seen."""
