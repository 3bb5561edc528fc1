"""Why a cron expression cannot be used, for people who know another cron.

What an expression means, and whether it ever matches, is decided in `app.services.schedule_times`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim, CronSimError

from app.dsl.spelling import Speller
from app.ports.problems import Problem

ALIASES: Final[Mapping[str, str]] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS: Final = 5
MOST_CHARACTERS: Final = 200
MOST_SHOWN: Final = 80
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_TAKES: Final[Mapping[str, tuple[int, str, str]]] = {
    "minute": (0, "minute", "0 to 59"),
    "hour": (1, "hour", "0 to 23"),
    "day-of-month": (2, "day of month", "1 to 31, or L for the last one"),
    "month": (3, "month", "1 to 12, or JAN to DEC"),
    "day-of-week": (4, "day of week", "0 to 7 (0 and 7 are Sunday), or SUN to SAT"),
}
"""What cronsim calls the fields → where they stand, what they are called here, and what they take."""
_DAY, _MONTH = 2, 3
_EXAMPLE: Final = "write minute, hour, day of month, month, day of week, such as '0 9 * * MON-FRI'"
_LENGTHS: Final = "February has 29 days at most, April, June, September and November have 30; L is the last"


def plain(cron: str) -> str:
    """The expression that an alias stands for, or the expression itself."""
    return ALIASES.get(cron.strip().lower(), cron)


def cron_problem(cron: str) -> Problem | None:
    """What is wrong with an expression, or None. It takes ten milliseconds to find that one never matches."""
    shown = repr(cron[:MOST_SHOWN])
    if cron.strip().startswith("@") and plain(cron) == cron:
        near = Speller(len(ALIASES)).hint(cron.strip().lower(), list(ALIASES), few=len(ALIASES))
        return _problem(f"there is no {shown} here", near or _EXAMPLE)
    fields = plain(cron).split()
    if len(fields) == FIELDS + 1:
        hint = f"seconds and years are not counted; leave one out, as in {' '.join(fields[1:])!r}"
        return _problem(f"the cron expression {shown} has six fields and not five", hint)
    if len(fields) != FIELDS:
        return _problem(f"the cron expression {shown} has not five fields but {len(fields)}", _EXAMPLE)
    if len(cron) > MOST_CHARACTERS or not cron.isascii():
        rule = f"write at most {MOST_CHARACTERS} ASCII characters"
        return _problem(f"the cron expression {shown} is too long or not ASCII", rule)
    return _unread(shown, fields)


def _unread(shown: str, fields: list[str]) -> Problem | None:
    try:
        next(CronSim(" ".join(fields), datetime(2000, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        if not _is_read([*fields[:_MONTH], "*", *fields[_MONTH + 1 :]]):
            return _misread(shown, fields, str(error).lower())
        if not _is_read([*fields[:_DAY], "*", *fields[_DAY + 1 :]]):
            return _misread(shown, fields, str(error).lower())
        return _problem(f"the cron expression {shown} names a day that its month does not have", _LENGTHS)
    except StopIteration:
        return _problem(f"the cron expression {shown} never matches: no day meets it", _LENGTHS)
    return None


def _is_read(fields: list[str]) -> bool:
    try:
        CronSim(" ".join(fields), datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        return False
    return True


def _misread(shown: str, fields: list[str], reason: str) -> Problem:
    named = _TAKES.get(reason.removeprefix("bad "))
    if named is None:
        return _problem(f"the cron expression {shown} cannot be read", _EXAMPLE)
    place, name, takes = named
    detail = f"the cron expression {shown} cannot be read: {fields[place]!r} is no {name}"
    if "?" in fields[place]:
        return _problem(detail, "write '*' for any")
    meant = _meant(fields[place], _MONTHS if place == _MONTH else _DAYS) if place >= _MONTH else None
    return _problem(detail, f"did you mean {meant!r}?" if meant else f"the {name} is {takes}")


def _meant(field: str, names: tuple[str, ...]) -> str | None:
    """The field with names of three letters, if that is what it takes."""

    def shortened(word: re.Match[str]) -> str:
        given = word[0].upper()
        found = [name for name in names if given.startswith(name) or name.startswith(given)]
        return found[0] if len(found) == 1 else word[0]

    meant = re.sub(r"[A-Za-z]{2,}", shortened, field)
    words = re.findall(r"[A-Za-z]+", meant)
    return meant if meant != field and all(word in names for word in words) else None


def _problem(detail: str, hint: str) -> Problem:
    return Problem(pointer="/cron", detail=detail, hint=hint)
