"""Errors of the client. Error responses are RFC 9457 problems."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sequor._models import Rejection


@dataclass(frozen=True)
class Problem:
    """An error response of the daemon.

    `type` is `/problems/` and a code. A response without a problem document, such as that of a
    reverse proxy, has the type `about:blank`.
    """

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    line: int | None = None
    column: int | None = None
    allowed: str | None = None
    retry_after: int | None = None
    request_id: str | None = None

    @classmethod
    def from_response(cls, status: int, headers: Mapping[str, str], body: bytes) -> Problem:
        """Reads the problem document of a response, or describes a response without one."""
        if headers.get("content-type", "").startswith("application/problem+json"):
            try:
                document: dict[str, Any] = json.loads(body)
                known = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
                return cls(**known)
            except (ValueError, TypeError):
                pass
        text = body[:200].decode(errors="replace")
        return cls(
            "about:blank", f"HTTP status {status}", status, text, request_id=headers.get("x-request-id")
        )


class SequorError(Exception):
    """A request failed. `problem` is the error response; it is None if there was no response."""

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem

    @classmethod
    def from_problem(cls, problem: Problem) -> SequorError:
        """The error of an error response."""
        code = problem.type.removeprefix("/problems/")
        allowed = f" (allowed: {problem.allowed})" if problem.allowed else ""
        return cls(f"{problem.status} {code}: {problem.detail}{allowed}", problem)

    @property
    def type(self) -> str | None:
        """The type of the problem, such as `/problems/out-of-range`."""
        return self.problem.type if self.problem else None

    @property
    def status(self) -> int | None:
        """The status of the response."""
        return self.problem.status if self.problem else None

    @property
    def field(self) -> str | None:
        """The invalid field or parameter."""
        return self.problem.field if self.problem else None

    @property
    def allowed(self) -> str | None:
        """The allowed values, in words."""
        return self.problem.allowed if self.problem else None


class ConnectionFailed(SequorError):
    """The daemon sent no response: the connection failed, was reset, or timed out."""


class EventsRejected(SequorError):
    """The daemon rejected events. `rejected` names the field and the reason of each."""

    def __init__(self, rejected: Sequence[Rejection]) -> None:
        first = rejected[0]
        super().__init__(f"{len(rejected)} events rejected; event {first.index}: {first.reason}")
        self.rejected = tuple(rejected)
