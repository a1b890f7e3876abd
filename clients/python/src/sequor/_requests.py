"""Builds requests and reads responses. Both clients use it; it does no input or output."""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote

from sequor._errors import SequorError
from sequor._models import (
    AttributeValue,
    ChangeReceipt,
    Consent,
    ContextValue,
    Event,
    ImpressionReceipt,
    Item,
    ItemChange,
    ItemList,
    ListItem,
    RankedList,
    Receipt,
    Recommendations,
    Rejection,
)

T = TypeVar("T")

After = Receipt | ChangeReceipt | ImpressionReceipt | int
"""A receipt or a journal offset that a list must include."""

# The daemon's defaults of `server.max_batch` and `server.max_body_bytes`. If the daemon has smaller
# limits, it answers with 413, and the client halves the batch.
MAX_BATCH = 1000
MAX_BODY_BYTES = 1_000_000


class ListOptions(TypedDict, total=False):
    """Parameters of lists, see docs/recommendations.md. `after` makes the list include a receipt."""

    limit: int
    exclude: Sequence[str]
    exclude_seen: bool
    filter: str
    context: Mapping[str, ContextValue]
    diversity: int
    explain: bool
    details: bool
    dismissed_for: str
    purchased_for: str
    exclude_events: str
    max_impressions: str
    impression_limit_action: Literal["drop", "demote"]
    consent: Consent
    placement: str
    item: str
    items: Sequence[str]
    after: After


@dataclass(frozen=True)
class Request(Generic[T]):
    """A request and the function that reads its response.

    A request that is not idempotent is not sent again after a lost response.
    """

    method: str
    path: str
    parse: Callable[[Any], T]
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    is_idempotent: bool = True
    has_receipt_on_400: bool = False


def encode(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _path(*parts: str) -> str:
    for part in parts:
        if part in ("", ".", ".."):
            raise ValueError(
                f"the id {part!r} cannot be in a URL; "
                "an id is a text of 1 to 256 bytes other than '.' and '..'"
            )
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _param(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    for part in value:
        if "," in part:
            raise ValueError(f"`{name}` has the id {part!r}; the query separates ids by commas")
    return ",".join(value)


def offset_of(after: After | None) -> int | None:
    """The `min_offset` of a list that includes a receipt."""
    return after if after is None or isinstance(after, int) else after.offset


def list_params(options: ListOptions) -> dict[str, str]:
    """The query of a list."""
    named: dict[str, Any] = dict(options)
    min_offset = offset_of(named.pop("after", None))
    context: Mapping[str, ContextValue] = named.pop("context", None) or {}
    params = {name: _param(name, value) for name, value in named.items() if value is not None}
    params |= {f"context.{name}": _param(name, value) for name, value in context.items()}
    if min_offset is not None:
        params["min_offset"] = str(min_offset)
    return params


def recommendations(user_id: str, options: ListOptions) -> Request[Recommendations]:
    """A list for a user."""
    return _user_list(user_id, list_params(options))


def recommendation_pages(
    user_id: str, page_size: int, options: ListOptions
) -> Generator[Request[Recommendations], Recommendations, None]:
    """The requests of the pages of one list. Ends after an empty page."""
    page = yield recommendations(user_id, {**options, "limit": page_size})
    first_id, offset = page.recommendation_id, len(page.items)
    while page.items:
        # A later page keeps the other parameters of the first one.
        params = {"recommendation_id": first_id, "offset": str(offset), "limit": str(page_size)}
        page = yield _user_list(user_id, params)
        offset += len(page.items)


def _user_list(user_id: str, params: Mapping[str, str]) -> Request[Recommendations]:
    return Request("GET", _path("users", user_id, "recommendations"), Recommendations.from_json, params)


def stream_path(user_id: str) -> str:
    """The path of the stream of a user's lists."""
    return _path("users", user_id, "recommendations", "stream")


def session_recommendations(items: Sequence[str], options: ListOptions) -> Request[Recommendations]:
    """A list for a session that the request describes."""
    body: dict[str, Any] = {**options, "items": list(items)}
    min_offset = offset_of(body.pop("after", None))
    if min_offset is not None:
        body["min_offset"] = min_offset
    return Request("POST", _path("recommendations"), Recommendations.from_json, body=encode(body))


def rank(
    items: Iterable[str | ListItem],
    user_id: str | None,
    items_in_session: Sequence[str] | None,
    placement: str | None,
    context: Mapping[str, ContextValue] | None,
    explain: bool,
    log: bool,
    after: After | None,
) -> Request[RankedList]:
    """The order of a given list for a user or a session."""

    def listed(item: str | ListItem) -> dict[str, Any]:
        if isinstance(item, str):
            return {"item_id": item}
        features = {} if item.relevance is None else {"features": {"relevance": item.relevance}}
        return {"item_id": item.item_id, **features}

    members = {
        "items": [listed(item) for item in items],
        "user_id": user_id,
        "items_in_session": items_in_session,
        "placement": placement,
        "context": context,
        "explain": explain or None,
        "log": log or None,
        "min_offset": offset_of(after),
    }
    body = encode({name: value for name, value in members.items() if value is not None})
    # A logged list is an impression with a new id, so a second request records a second one.
    return Request("POST", _path("rank"), RankedList.from_json, body=body, is_idempotent=not log)


def item_list(path: Sequence[str], options: Mapping[str, Any]) -> Request[ItemList]:
    """Similar or trending items."""
    params = {name: _param(name, value) for name, value in options.items() if value is not None}
    return Request("GET", _path(*path), ItemList.from_json, params)


def impression(
    user_id: str,
    items: Iterable[str | ListItem],
    recommendation_id: str | None,
    placement: str | None,
    consent: Consent | None,
) -> Request[ImpressionReceipt]:
    """A report of shown items. The client makes the id of the list, so that a retry counts once."""

    def shown(item: str | ListItem) -> Any:
        if isinstance(item, str):
            return item
        members = {"item_id": item.item_id, "relevance": item.relevance, "model_score": item.model_score}
        return {name: value for name, value in members.items() if value is not None}

    members = {
        "user_id": user_id,
        "items": [shown(item) for item in items],
        "recommendation_id": recommendation_id or uuid.uuid4().hex,
        "placement": placement,
        "consent": consent,
    }
    body = encode({name: value for name, value in members.items() if value is not None})
    return Request("POST", _path("impressions"), ImpressionReceipt.from_json, body=body)


def get_item(item_id: str) -> Request[Item]:
    return Request("GET", _path("items", item_id), Item.from_json)


def change_item(
    method: Literal["PUT", "PATCH"], item_id: str, attributes: Mapping[str, Any]
) -> Request[Receipt]:
    return Request(method, _path("items", item_id), Receipt.from_json, body=encode(attributes))


def update_user(user_id: str, attributes: Mapping[str, AttributeValue | None]) -> Request[Receipt]:
    return Request(
        "PATCH", _path("users", user_id), Receipt.from_json, body=encode({"attributes": attributes})
    )


def merge_users(user_id: str, from_id: str) -> Request[Receipt]:
    return Request(
        "POST", _path("users", user_id, "merge"), Receipt.from_json, body=encode({"from": from_id})
    )


def _placements_from_json(json: Any) -> dict[str, dict[str, Any]]:
    return dict(json["placements"])


def list_placements() -> Request[dict[str, dict[str, Any]]]:
    return Request("GET", _path("placements"), _placements_from_json)


def get_placement(name: str) -> Request[dict[str, Any]]:
    return Request("GET", _path("placements", name), dict)


def put_placement(name: str, config: Mapping[str, Any]) -> Request[ChangeReceipt]:
    return Request("PUT", _path("placements", name), ChangeReceipt.from_json, body=encode(config))


def delete_placement(name: str) -> Request[ChangeReceipt]:
    return Request("DELETE", _path("placements", name), ChangeReceipt.from_json)


def event_batches(
    events: Iterable[Event], params: Mapping[str, str]
) -> Generator[Request[Receipt], Receipt, Receipt]:
    """The requests that send events, in batches within the limits of the daemon."""
    return _batches("events", [encode(event.to_json()) for event in events], params)


def item_batches(changes: Iterable[ItemChange]) -> Generator[Request[Receipt], Receipt, Receipt]:
    """The requests that change items, in batches within the limits of the daemon."""
    return _batches("items", [encode(change.to_json()) for change in changes], {})


def _batches(
    path: str, records: Sequence[bytes], params: Mapping[str, str]
) -> Generator[Request[Receipt], Receipt, Receipt]:
    """Sends records in order. Halves a batch that the daemon refuses as too large (413)."""
    pending = deque(_split(records))
    merged = Receipt()
    while pending:
        first, batch = pending.popleft()
        body = b"[" + b",".join(batch) + b"]"
        try:
            # Recommendations are for the last event, so only the last batch asks for them.
            receipt = yield Request(
                "POST",
                _path(path),
                Receipt.from_json,
                params if not pending else {},
                body,
                has_receipt_on_400=True,
            )
        except SequorError as error:
            if error.status != 413:
                raise
            half = len(batch) // 2
            if half:
                pending.extendleft([(first + half, batch[half:]), (first, batch[:half])])
                continue
            receipt = Receipt(rejected=(Rejection(0, "too_large", str(error)),))
        merged = merged.merged(receipt, first)
    return merged


def _split(records: Sequence[bytes]) -> list[tuple[int, Sequence[bytes]]]:
    """Consecutive batches with the index of their first record."""
    batches: list[tuple[int, Sequence[bytes]]] = []
    first, size = 0, 2
    for index, record in enumerate(records):
        if index > first and (index - first == MAX_BATCH or size + len(record) + 1 > MAX_BODY_BYTES):
            batches.append((first, records[first:index]))
            first, size = index, 2
        size += len(record) + 1
    if records:
        batches.append((first, records[first:]))
    return batches
