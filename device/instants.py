"""Times in recordings: text to microseconds since 1970, in a named format and time zone."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from plantroom.wire.errors import ConfigError

_1970 = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
ISO, UNIX, UNIX_MS = "iso", "unix", "unix_ms"


class Parser(Protocol):
    """Reads times of one form.

    A local time that happens twice, when summer time ends, is the second one where the first
    would be before `not_before_us`: recordings go forward.
    """

    def __call__(self, text: str, not_before_us: int | None = None) -> int: ...  # noqa: D102


def zone(name: str) -> tzinfo:
    """Return the time zone of this name.

    Raises:
        ConfigError: when there is none.
    """
    if name.upper() == "UTC":
        return UTC
    import zoneinfo  # noqa: PLC0415 -- most recordings are in UTC, and a sensor is small

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"no time zone {name!r}", remedy='write a name such as "UTC" or "Europe/Brussels"'
        ) from error


def parser(form: str, timezone: str) -> Parser:
    """Return what reads times of this form: `iso`, `unix`, `unix_ms` or a strptime pattern.

    The parser raises ValueError, also for a local time that summer time skips.
    """
    if form in {UNIX, UNIX_MS}:
        scale = 1_000_000 if form == UNIX else 1000
        return lambda text, _not_before_us=None: _count(text, scale)
    where = zone(timezone)

    def parse(text: str, not_before_us: int | None = None) -> int:
        local = datetime.fromisoformat(text) if form == ISO else datetime.strptime(text, form)  # noqa: DTZ007 -- `_instant` adds it
        return _instant(local, where, not_before_us)

    return parse


def _count(text: str, scale: int) -> int:
    whole, _, rest = text.partition(".")
    if not whole.isdecimal() or (rest and not rest.isdecimal()):
        raise ValueError(f"{text!r} is not a count of seconds since 1970")
    return int(whole) * scale + round(float(f"0.{rest or 0}") * scale)


def _instant(local: datetime, where: tzinfo, not_before_us: int | None) -> int:
    if local.tzinfo is not None:
        return (local - _1970) // _MICROSECOND
    aware = local.replace(tzinfo=where)
    if aware.astimezone(UTC).astimezone(where).replace(tzinfo=None) != local:
        raise ValueError(f"{local} does not exist in {where}: summer time skips it")
    first = (aware - _1970) // _MICROSECOND
    if not_before_us is None or first >= not_before_us:
        return first
    second = (aware.replace(fold=1) - _1970) // _MICROSECOND
    return second if second >= not_before_us else first
