"""Delays, and values of `Retry-After`."""

from __future__ import annotations

import pytest

from sequor import RetryPolicy
from sequor._retry import is_retryable_status, parse_retry_after

NOW = 1_704_067_200.0  # Mon, 01 Jan 2024 00:00:00 GMT


def test_the_backoff_doubles_up_to_its_limit_with_full_jitter() -> None:
    policy = RetryPolicy(attempts=None, base_delay=0.2, max_delay=1.0)
    # 0.2 * 2^(n-1), at most 1.0
    assert [policy.delay(n, None, lambda: 1.0) for n in (1, 2, 3, 4, 5, 5000)] == [
        0.2,
        0.4,
        0.8,
        1.0,
        1.0,
        1.0,
    ]
    assert policy.delay(3, None, lambda: 0.0) == 0.0
    assert policy.delay(3, None, lambda: 0.25) == pytest.approx(0.2)


def test_the_last_attempt_has_no_delay() -> None:
    policy = RetryPolicy(attempts=2)
    assert policy.delay(1, None, lambda: 1.0) is not None
    assert policy.delay(2, None, lambda: 1.0) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("-1", None),
        ("1.5", None),
        ("later", None),
        ("", None),
        ("Mon, 01 Jan 2024 00:00:30 GMT", 30.0),
        ("Sun, 31 Dec 2023 23:59:30 GMT", 0.0),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


def test_an_unknown_outcome_is_retried_only_if_that_is_safe() -> None:
    assert [is_retryable_status(status, False) for status in (408, 429, 503, 500, 502, 504)] == [True] * 3 + [
        False
    ] * 3
    assert [is_retryable_status(status, True) for status in (408, 429, 503, 500, 502, 504)] == [True] * 6
    assert [is_retryable_status(status, True) for status in (400, 401, 404, 409, 413)] == [False] * 5
