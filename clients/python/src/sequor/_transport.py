"""What the sync and the async client share: settings, responses, decisions about retries."""

from __future__ import annotations

import json
import random as random_module
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx

from sequor._errors import ConnectionFailed, Problem, SequorError
from sequor._models import Event, Recommendations
from sequor._requests import Request, encode
from sequor._retry import RetryPolicy, is_retryable_status, parse_retry_after

T = TypeVar("T")


@dataclass(frozen=True)
class Connection:
    """Address, key, retries, and the clock and the random numbers, which tests replace."""

    base_url: str
    key: str | None = None
    timeout: float = 10.0
    retry: RetryPolicy = RetryPolicy()
    clock: Callable[[], float] = time.time
    random: Callable[[], float] = random_module.random

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url is {self.base_url!r}; it must begin with http:// or https://")
        # The messages do not repeat secrets.
        if "@" in self.base_url:
            raise ValueError("base_url has a user name or a password; use `key` instead")
        if self.key and not all(" " <= character <= "~" for character in self.key):
            raise ValueError(
                "the key has a character that a header cannot have, "
                "such as a line break or a letter outside ASCII"
            )
        if not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout}; it must be more than 0 seconds")

    def http_options(self) -> dict[str, Any]:
        """The arguments of the httpx client."""
        headers = {"accept": "application/json, application/problem+json", "user-agent": "sequor-python"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        # Loading the certificates takes 60 ms, and a plain connection needs none.
        needs_certificates = not self.base_url.startswith("http://")
        return {
            "base_url": self.base_url,
            "timeout": self.timeout,
            "headers": headers,
            "verify": needs_certificates,
        }

    def queueable(self, event: Event) -> Event:
        """The event with the present time if it has none, so that a queue does not change its time.

        The event shares nothing with the caller, whose later changes do not reach the queue. Raises an
        error if it has no JSON form, because the background cannot raise it.
        """
        if event.timestamp is None:
            event = replace(event, timestamp=datetime.fromtimestamp(self.clock(), UTC))
        text = encode(event.to_json())
        if event.context is None and event.properties is None:
            return event
        members = json.loads(text)
        return replace(event, context=members.get("context"), properties=members.get("properties"))

    def delay_before_retry(self, policy: RetryPolicy, attempt: int, failure: Failure) -> float:
        """The delay before the next attempt. Raises the error of the failure if there is none."""
        if failure.is_retryable:
            delay = policy.delay(attempt, failure.retry_after, self.random)
            if delay is not None:
                return delay
        raise failure.error

    def failure_of_response(self, response: httpx.Response, is_idempotent: bool) -> Failure:
        """The failure of an error response, whose body has been read."""
        problem = Problem.from_response(response.status_code, response.headers, response.content)
        retry_after = parse_retry_after(response.headers.get("retry-after"), self.clock())
        if retry_after is None and problem.retry_after is not None:
            retry_after = float(problem.retry_after)
        is_retryable = is_retryable_status(response.status_code, is_idempotent)
        return Failure(SequorError.from_problem(problem), is_retryable, retry_after)


@dataclass(frozen=True)
class Failure:
    """A failed attempt."""

    error: SequorError
    is_retryable: bool
    retry_after: float | None = None


def failure_of_connection(error: httpx.TransportError, is_idempotent: bool) -> Failure:
    """The failure of an attempt without a response.

    If the connection was never made, the daemon has not seen the request.
    """
    was_not_sent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
    failed = ConnectionFailed(f"no response: {error or type(error).__name__}")
    failed.__cause__ = error
    return Failure(failed, is_idempotent or was_not_sent)


def request_arguments(request: Request[Any]) -> dict[str, Any]:
    """The arguments of `httpx.Client.request`."""
    headers = {"content-type": "application/json"} if request.body is not None else {}
    return {
        "method": request.method,
        "url": request.path,
        "params": request.params or None,
        "content": request.body,
        "headers": headers,
    }


def is_success(request: Request[Any], response: httpx.Response) -> bool:
    """Whether the response has the result. A batch without valid records gets 400 with a receipt."""
    has_receipt = (
        request.has_receipt_on_400
        and response.status_code == 400
        and response.headers.get("content-type", "").startswith("application/json")
    )
    return response.is_success or has_receipt


def raw_request(method: str, path: str, params: Mapping[str, str] | None, body: bytes | None) -> Request[Any]:
    """A request whose result is the decoded JSON. A POST is not sent again after a lost response."""
    return Request(method, path, lambda value: value, params or {}, body, is_idempotent=method != "POST")


def lists_of_stream(lines: Iterable[str]) -> list[Recommendations]:
    """The list of a complete server-sent event, or nothing for a comment."""
    members = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith(":"))
    if "data" not in members:
        return []
    offset = members.get("id")
    return [Recommendations.from_json(json.loads(members["data"]), int(offset) if offset else None)]
