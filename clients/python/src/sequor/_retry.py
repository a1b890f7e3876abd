"""When a request is sent again, and after which delay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

# The daemon stores nothing if it answers with one of these.
_NOTHING_STORED = frozenset({408, 429, 503})
# The request can have taken effect.
_UNKNOWN_OUTCOME = frozenset({500, 502, 504})


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter. All times are in seconds.

    The delay before retry n is a random time up to `base_delay` * 2^(n-1), at most `max_delay`. It
    is added to the `Retry-After` of the response. A response with a `Retry-After` above
    `max_retry_after` is not retried. `attempts` includes the first attempt; None is no limit.
    """

    attempts: int | None = 5
    base_delay: float = 0.2
    max_delay: float = 10.0
    max_retry_after: float = 60.0

    def delay(self, attempt: int, retry_after: float | None, random: Callable[[], float]) -> float | None:
        """The delay after a failed attempt, counted from 1. None if there is no further attempt."""
        if self.attempts is not None and attempt >= self.attempts:
            return None
        if retry_after is not None and retry_after > self.max_retry_after:
            return None
        # The exponent is bounded, so that the power cannot overflow.
        backoff = min(self.max_delay, self.base_delay * 2.0 ** min(attempt - 1, 32))
        return (retry_after or 0.0) + random() * backoff


def is_retryable_status(status: int, is_idempotent: bool) -> bool:
    """Whether a request with a response of this status is sent again."""
    return status in _NOTHING_STORED or (is_idempotent and status in _UNKNOWN_OUTCOME)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """The seconds that a `Retry-After` header asks to wait, from a number of seconds or a date.

    `now` is in seconds since 1970. None if the header is absent or malformed.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None
