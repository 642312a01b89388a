"""Times as text: RFC 3339 in UTC with the precision that was stored, and back."""

import re
from datetime import UTC, datetime, timedelta

from plantroom.wire.errors import UsageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_US = timedelta(microseconds=1)
_FRACTION = re.compile(r"(?<=:\d\d)\.(\d{1,9})")


def format_us(time_us: int) -> str:
    """Write microseconds since 1970; the fraction is as short as it can be without losing any.

    >>> format_us(1_423_072_260_000_000), format_us(1_423_072_260_250_000)
    ('2015-02-04T17:51:00Z', '2015-02-04T17:51:00.25Z')
    """
    whole, fraction = divmod(time_us, 1_000_000)
    text = (_EPOCH + timedelta(seconds=whole)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:06d}".rstrip("0") + "Z" if fraction else f"{text}Z"


def parse_us(text: str) -> int:
    """Read a date and time with an offset, or a date alone (its midnight in UTC).

    Raises:
        UsageError: when it is neither, or has no offset.
    """
    try:
        when = datetime.fromisoformat(_FRACTION.sub(_six_digits, text.strip()))
    except ValueError:
        raise _not_a_time(text) from None
    if when.tzinfo is None:
        if len(text.strip()) > len("2015-02-04"):
            raise _not_a_time(text)
        when = when.replace(tzinfo=UTC)
    return (when - _EPOCH) // _ONE_US


def _six_digits(match: re.Match[str]) -> str:
    return f".{match[1]:0<6.6}"


def _not_a_time(text: str) -> UsageError:
    return UsageError(
        f"not a time: {text[:40]!r}", remedy="write 2015-02-04T17:51:00Z, or 2015-02-04"
    )
