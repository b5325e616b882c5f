"""The zone of this machine's wall clock, as the system has it now.

Rules are written in local time, and Python has no name for the zone that `time.localtime` goes
by. This is that one, with its summers, and it follows when the owner travels (`follow`).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, tzinfo


class LocalZone(tzinfo):
    """Naive times are the system's local ones (PEP 495): so are this zone's."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        if dt is None:
            return None
        wall = dt.replace(tzinfo=None)
        utc = datetime.fromtimestamp(wall.timestamp(), UTC).replace(tzinfo=None)
        return wall.replace(fold=0) - utc

    def fromutc(self, dt: datetime) -> datetime:
        moment = dt.replace(tzinfo=UTC)
        wall = moment.astimezone().replace(tzinfo=None)
        # What comes twice is the second one if the first was at another moment.
        second = abs(wall.timestamp() - moment.timestamp()) > 1
        return wall.replace(tzinfo=self, fold=int(second))

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().tzname()

    @staticmethod
    def follow() -> None:
        """Look again which zone it is: the C library asks only when it is told to."""
        time.tzset()


LOCAL = LocalZone()
