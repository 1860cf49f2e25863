"""Times as integers: microseconds since 1970 in UTC, what the catalogue compares and stores."""

from datetime import UTC, datetime, timedelta

__all__ = ["DAY_US", "from_microseconds", "interval_from_text", "to_microseconds"]

DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_microseconds(text: str) -> int:
    """Read an RFC 3339 time or date; one without a zone is UTC.

    Args:
        text: such as `2024-06-21T10:36:31.024Z` or `2024-06-21`.

    Returns:
        Microseconds since 1970-01-01T00:00:00Z.

    Raises:
        ValueError: the text is neither a time nor a date.
    """
    try:
        time = datetime.fromisoformat(text.strip().upper())
    except ValueError:
        raise ValueError(f"{text!r} is not an RFC 3339 time or date") from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(value: int) -> str:
    """Write microseconds since 1970 as RFC 3339, without a fraction where there is none."""
    return (_EPOCH + timedelta(microseconds=value)).isoformat().replace("+00:00", "Z")


def interval_from_text(text: str | None) -> tuple[int | None, int | None]:
    """Read the `datetime` parameter of a STAC search.

    Args:
        text: one time, or `start/end` where either end may be `..` or empty.

    Returns:
        Start and end in microseconds, inclusive; None is open.

    Raises:
        ValueError: more than one slash, an unreadable end, both ends open, or start after end.
    """
    if text is None:
        return None, None
    parts = text.split("/")
    if len(parts) > 2:
        raise ValueError(f"datetime {text!r} has more than one slash")
    ends = [None if part in ("", "..") else to_microseconds(part) for part in parts]
    start, end = (ends[0], ends[-1])
    if start is None and end is None:
        raise ValueError(f"datetime {text!r} is open at both ends; leave the parameter out")
    if start is not None and end is not None and start > end:
        raise ValueError(f"datetime {text!r} starts after it ends")
    return start, end
