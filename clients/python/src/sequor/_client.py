"""The synchronous client."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from sequor import _requests
from sequor._buffer import BufferOptions, EventBuffer
from sequor._errors import ConnectionFailed, SequorError
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
)
from sequor._requests import After, ListOptions, Request
from sequor._retry import RetryPolicy
from sequor._transport import (
    Connection,
    Failure,
    failure_of_connection,
    is_success,
    lists_of_stream,
    raw_request,
    request_arguments,
)

T = TypeVar("T")


class SequorClient:
    """A client of one daemon. Threads can share it.

    `timeout` is in seconds and applies to each attempt. `buffer` configures `track`. The other
    parameters exist for tests.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8080",
        *,
        key: str | None = None,
        timeout: float = 10.0,
        retry: RetryPolicy | None = None,
        buffer: BufferOptions | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] | None = None,
    ) -> None:
        options = {"random": random} if random else {}
        self._connection = Connection(base_url, key, timeout, retry or RetryPolicy(), clock, **options)
        self._http = httpx.Client(**self._connection.http_options())
        self._sleep = sleep
        _clients.add(self)
        self.buffer = EventBuffer(self._send_tracked, buffer or BufferOptions())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Sends the tracked events and closes the connections. In `on_error`, returns at once."""
        if self.buffer.is_sending_thread:
            threading.Thread(target=self.close, name="sequor-close").start()
            return
        self.buffer.close()
        self._http.close()

    # Events

    def track(self, event: Event) -> bool:
        """Queues an event for `buffer`, which sends it in the background. Returns whether it was queued.

        An event without `timestamp` gets the present time.
        """
        return self.buffer.add(self._connection.queueable(event))

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until the tracked events are sent. Returns False after `timeout` seconds."""
        return self.buffer.flush(timeout)

    def send_events(
        self, events: Iterable[Event], *, recommend: int | None = None, placement: str | None = None
    ) -> Receipt:
        """Sends events and returns after they are on disk. Sends several requests if there are many.

        `recommend` also asks for recommendations for the user of the last event. The receipt lists
        invalid events in `rejected`. After an error, call again with the same `Event` objects:
        events that are stored already do not count again.
        """
        params = {} if recommend is None else {"recommend": str(recommend)}
        if placement is not None:
            params["placement"] = placement
        return self._call_batches(_requests.event_batches(events, params))

    # Lists

    def recommendations(self, user_id: str, **options: Unpack[ListOptions]) -> Recommendations:
        """Recommends items for a user. With `after=receipt`, the list includes the events of the receipt."""
        return self._call(_requests.recommendations(user_id, options))

    def recommendation_pages(
        self, user_id: str, page_size: int, **options: Unpack[ListOptions]
    ) -> Iterator[Recommendations]:
        """The pages of one list. Requests a page when the caller asks for it.

        Each page has a `recommendation_id` of its own, which the events on its items name.
        """
        pages = _requests.recommendation_pages(user_id, page_size, options)
        request = next(pages)
        while True:
            page = self._call(request)
            if page.items:
                yield page
            try:
                request = pages.send(page)
            except StopIteration:
                return

    def stream_recommendations(
        self, user_id: str, **options: Unpack[ListOptions]
    ) -> Iterator[Recommendations]:
        """The list of a user, and a new list after each event of the user. Reconnects without end.

        Raises an error if the daemon refuses the request, or after `retry.attempts` failures in a row.
        """
        params, path = _requests.list_params(options), _requests.stream_path(user_id)
        timeout = httpx.Timeout(self._connection.timeout, read=None)
        failures = 0
        while True:
            try:
                with self._http.stream("GET", path, params=params, timeout=timeout) as response:
                    if response.is_success:
                        lines: list[str] = []
                        for line in response.iter_lines():
                            lines.append(line)
                            if not line:
                                for received in lists_of_stream(lines):
                                    failures = 0
                                    yield received
                                lines = []
                        failure = Failure(ConnectionFailed("the stream ended"), is_retryable=True)
                    else:
                        response.read()
                        failure = self._connection.failure_of_response(response, is_idempotent=True)
            except httpx.TransportError as error:
                failure = failure_of_connection(error, is_idempotent=True)
            failures += 1
            self._sleep(self._connection.delay_before_retry(self._connection.retry, failures, failure))

    def recommendations_for_session(
        self, session_items: Sequence[str], **options: Unpack[ListOptions]
    ) -> Recommendations:
        """Recommends items for a session that the request describes, oldest item first. Stores nothing."""
        return self._call(_requests.session_recommendations(session_items, options))

    def rank(
        self,
        items: Iterable[str | ListItem],
        *,
        user_id: str | None = None,
        items_in_session: Sequence[str] | None = None,
        placement: str | None = None,
        context: Mapping[str, ContextValue] | None = None,
        explain: bool = False,
        log: bool = False,
        after: After | None = None,
    ) -> RankedList:
        """Orders a list of the site for a user or a session. `log` records the list as shown."""
        return self._call(
            _requests.rank(items, user_id, items_in_session, placement, context, explain, log, after)
        )

    def similar_items(
        self,
        item_id: str,
        *,
        limit: int | None = None,
        placement: str | None = None,
        explain: bool | None = None,
    ) -> ItemList:
        """Items that are similar to an item."""
        options = {"limit": limit, "placement": placement, "explain": explain}
        return self._call(_requests.item_list(("items", item_id, "similar"), options))

    def trending_items(
        self, *, limit: int | None = None, placement: str | None = None, category: str | None = None
    ) -> ItemList:
        """Trending items."""
        options = {"limit": limit, "placement": placement, "category": category}
        return self._call(_requests.item_list(("trending",), options))

    def report_impression(
        self,
        user_id: str,
        items: Iterable[str | ListItem],
        *,
        recommendation_id: str | None = None,
        placement: str | None = None,
        consent: Consent | None = None,
    ) -> ImpressionReceipt:
        """Reports items that the site has shown to a user."""
        return self._call(_requests.impression(user_id, items, recommendation_id, placement, consent))

    # Catalog

    def get_item(self, item_id: str) -> Item:
        """An item of the catalog."""
        return self._call(_requests.get_item(item_id))

    def put_item(self, item_id: str, attributes: Mapping[str, Any]) -> Receipt:
        """Describes an item. Replaces an earlier description."""
        return self._call(_requests.change_item("PUT", item_id, attributes))

    def patch_item(self, item_id: str, attributes: Mapping[str, Any]) -> Receipt:
        """Changes the named attributes of an item. None removes an attribute."""
        return self._call(_requests.change_item("PATCH", item_id, attributes))

    def delete_item(self, item_id: str) -> Receipt:
        """Deletes an item. Deleting an unknown item has no effect, so a retry is safe."""
        return self.change_items([ItemChange(item_id, op="delete")])

    def change_items(self, changes: Iterable[ItemChange]) -> Receipt:
        """Puts, patches and deletes many items. Sends several requests if there are many."""
        return self._call_batches(_requests.item_batches(changes))

    # Users

    def update_user(self, user_id: str, attributes: Mapping[str, AttributeValue | None]) -> Receipt:
        """Sets attributes of a user. None removes an attribute; other attributes stay."""
        return self._call(_requests.update_user(user_id, attributes))

    def merge_users(self, user_id: str, from_id: str) -> Receipt:
        """Makes `from_id` another id of the user, such as at the login of a visitor."""
        return self._call(_requests.merge_users(user_id, from_id))

    # Placements

    def list_placements(self) -> dict[str, dict[str, Any]]:
        """All placements by name."""
        return self._call(_requests.list_placements())

    def get_placement(self, name: str) -> dict[str, Any]:
        """The configuration of a placement."""
        return self._call(_requests.get_placement(name))

    def put_placement(self, name: str, config: Mapping[str, Any]) -> ChangeReceipt:
        """Creates or replaces a placement."""
        return self._call(_requests.put_placement(name, config))

    def delete_placement(self, name: str) -> ChangeReceipt:
        """Deletes a placement."""
        return self._call(_requests.delete_placement(name))

    # Everything else

    def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, json: Any = None
    ) -> Any:
        """Sends a request to any path, such as `/v1/rules/summer`. Returns the decoded JSON."""
        body = None if json is None else _requests.encode(json)
        return self._call(raw_request(method, path, params, body))

    def _send_tracked(self, events: Sequence[Event]) -> Receipt:
        """Sends a batch of the buffer, until the daemon has stored or refused it."""
        retry = replace(self._connection.retry, attempts=None, max_retry_after=math.inf)
        return self._call_batches(_requests.event_batches(events, {}), retry)

    def _call_batches(
        self, batches: Generator[Request[Receipt], Receipt, Receipt], retry: RetryPolicy | None = None
    ) -> Receipt:
        try:
            request = next(batches)
            while True:
                try:
                    receipt = self._call(request, retry)
                except SequorError as error:
                    request = batches.throw(error)
                else:
                    request = batches.send(receipt)
        except StopIteration as end:
            merged: Receipt = end.value
            return merged

    def _call(self, request: Request[T], retry: RetryPolicy | None = None) -> T:
        policy = retry or self._connection.retry
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._http.request(**request_arguments(request))
            except httpx.TransportError as error:
                failure = failure_of_connection(error, request.is_idempotent)
            else:
                if is_success(request, response):
                    return request.parse(response.json())
                failure = self._connection.failure_of_response(response, request.is_idempotent)
            self._sleep(self._connection.delay_before_retry(policy, attempt, failure))

    def _reset_after_fork(self) -> None:
        """The child must not use the connections and the thread of its parent."""
        self._http = httpx.Client(**self._connection.http_options())
        self.buffer.reset_after_fork()


_clients: weakref.WeakSet[SequorClient] = weakref.WeakSet()


def _reset_clients() -> None:
    for client in list(_clients):
        client._reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_clients)
