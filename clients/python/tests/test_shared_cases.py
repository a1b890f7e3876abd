"""Runs the shared cases with both clients. The asynchronous client runs behind a synchronous face."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import pytest
from harness import PATIENCE, SHARED, Daemon, FaultProxy

from sequor import (
    AsyncSequorClient,
    BufferOptions,
    Event,
    ItemChange,
    ListItem,
    RetryPolicy,
    SequorClient,
    SequorError,
)

TABLE: dict[str, Any] = json.loads((SHARED / "cases.json").read_text())


@dataclasses.dataclass
class Service:
    """The kind of client under test, a new daemon, and the proxy between the two."""

    kind: str
    daemon: Daemon
    proxy: FaultProxy


@pytest.fixture(scope="module", params=["sync", "async"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), TABLE["daemon"])
    daemon.start()
    proxy = FaultProxy(daemon.url)
    yield Service(request.param, daemon, proxy)
    proxy.stop()
    daemon.stop()


class BlockingFace:
    """The methods of an asynchronous client as functions that wait for the result."""

    def __init__(self, client: AsyncSequorClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop
        self.buffer = client.buffer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def collect(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            if inspect.isasyncgen(result):
                return AsyncPages(result, self._loop)
            return await result

        return lambda *args, **options: self._run(collect(*args, **options))

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)


class AsyncPages:
    """An asynchronous generator as an iterator."""

    def __init__(self, pages: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._pages, self._loop = pages, loop

    def __iter__(self) -> AsyncPages:
        return self

    def __next__(self) -> Any:
        async def following() -> Any:
            return await anext(self._pages, None)

        page = asyncio.run_coroutine_threadsafe(following(), self._loop).result(PATIENCE)
        if page is None:
            raise StopIteration
        return page


@dataclasses.dataclass
class Run:
    """A client for one case, and what it reported."""

    client: Any
    delays: list[float]
    lost: list[Event]
    close: Callable[[], None]


def start(kind: str, url: str, case: dict[str, Any]) -> Run:
    delays: list[float] = []
    lost: list[Event] = []
    now = datetime.fromisoformat(TABLE["now"]).timestamp()
    options: dict[str, Any] = {
        "timeout": case.get("timeout", PATIENCE),
        "retry": RetryPolicy(**TABLE["retry"]),
        "buffer": BufferOptions(flush_interval=PATIENCE, on_error=lambda events, _: lost.extend(events)),
        "clock": lambda: now,
        "random": lambda: TABLE["random"],
    }
    if kind == "sync":
        client = SequorClient(url, sleep=delays.append, **options)
        return Run(client, delays, lost, client.close)

    async def sleep(delay: float) -> None:
        delays.append(delay)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    face = BlockingFace(AsyncSequorClient(url, sleep=sleep, **options), loop)

    def close() -> None:
        face.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    return Run(face, delays, lost, close)


def event_of(members: dict[str, Any]) -> Event:
    """An event of the table. `$text-N` is a text of N characters."""
    properties = {
        name: "x" * int(value.removeprefix("$text-")) for name, value in members.get("properties", {}).items()
    }
    return Event(**{**members, "properties": properties or None})


def events_of(step: dict[str, Any]) -> list[Event]:
    given = step["events"]
    if isinstance(given, list):
        return [event_of(members) for members in given]
    template = json.dumps(given["event"])
    events = [event_of(json.loads(template.replace("#", str(n + 1)))) for n in range(given["count"])]
    return events + ([event_of(given["then"])] if "then" in given else [])


def list_items(items: Sequence[Any]) -> list[str | ListItem]:
    return [item if isinstance(item, str) else ListItem(**item) for item in items]


def perform(run: Run, step: dict[str, Any], saved: dict[str, Any]) -> Any:
    """Calls the client as a step says."""
    client, call = run.client, step["call"]
    options = dict(step.get("options", {}))
    if str(options.get("after", "")).startswith("$"):
        options["after"] = saved[options["after"][1:]]
    match call:
        case "send_events":
            return client.send_events(events_of(step), recommend=step.get("recommend"))
        case "track":
            for event in events_of(step):
                assert client.track(event)
            client.flush()
            return client.buffer.stats
        case "recommendations":
            return client.recommendations(step["user"], **options)
        case "recommendation_pages":
            pages = client.recommendation_pages(step["user"], step["page_size"], **options)
            return list(islice(pages, step.get("pages")))
        case "recommendations_for_session":
            return client.recommendations_for_session(step["items"], **options)
        case "rank":
            return client.rank(list_items(step["items"]), **options)
        case "report_impression":
            return client.report_impression(step["user"], list_items(step["items"]), **options)
        case "put_item" | "patch_item":
            return getattr(client, call)(step["item"], step["attributes"])
        case "get_item" | "delete_item":
            return getattr(client, call)(step["item"])
        case "similar_items":
            return client.similar_items(step["item"], **options)
        case "trending_items":
            return client.trending_items(**options)
        case "change_items":
            changes = [dict(change) for change in step["changes"]]
            return client.change_items(
                [
                    ItemChange(change.pop("item_id"), op=change.pop("op"), attributes=change)
                    for change in changes
                ]
            )
        case "update_user":
            return client.update_user(step["user"], step["attributes"])
        case "merge_users":
            return client.merge_users(step["user"], step["from"])
        case "put_placement":
            return client.put_placement(step["name"], step["config"])
        case "get_placement" | "delete_placement":
            return getattr(client, call)(step["name"])
        case "list_placements":
            return client.list_placements()
        case "request":
            return client.request(step["method"], step["path"], json=step.get("json"))
    raise ValueError(f"unknown call {call}")


def plain(value: Any) -> Any:
    """A result as JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    return value


def assert_matches(actual: Any, expected: Any, path: str) -> None:
    """Compares the members that `expected` names."""
    if expected == "$any":
        assert actual is not None, path
    elif isinstance(expected, dict) and "$length" in expected:
        assert len(actual) == expected["$length"], f"{path}: {actual}"
    elif isinstance(expected, dict):
        for name, member in expected.items():
            assert name in actual, f"{path} has no {name}: {actual}"
            assert_matches(actual[name], member, f"{path}.{name}")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), f"{path}: {actual}"
        for index, member in enumerate(expected):
            assert_matches(actual[index], member, f"{path}[{index}]")
    else:
        assert actual == expected, f"{path} is {actual}, expected {expected}"


def check_step(run: Run, step: dict[str, Any], saved: dict[str, Any]) -> None:
    if "invalid" in step:
        with pytest.raises(ValueError, match=step["invalid"]):
            perform(run, step, saved)
    elif "error" in step:
        with pytest.raises(SequorError) as caught:
            perform(run, step, saved)
        error = caught.value
        members = {name: getattr(error, name) for name in ("type", "status", "field", "allowed")}
        assert_matches(members | {"problem": plain(error.problem)}, step["error"], "error")
    else:
        result = perform(run, step, saved)
        if "save" in step:
            saved[step["save"]] = result
        assert_matches(plain(result), step["expect"], step["call"])
        if "without" in step:
            assert step["without"] not in result.item_ids
        if step.get("distinct_items"):
            ids = [item_id for page in result for item_id in page.item_ids]
            assert len(ids) == len(set(ids)), ids
    assert len(run.lost) == step.get("lost", 0), run.lost


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
def test_shared_case(service: Service, case: dict[str, Any]) -> None:
    service.proxy.plan(case.get("faults", []))
    run = start(service.kind, service.proxy.url, case)
    try:
        saved: dict[str, Any] = {}
        for step in case["steps"]:
            check_step(run, step, saved)
    finally:
        run.close()
    requests = service.proxy.requests()
    if "requests" in case:
        assert len(requests) == case["requests"], requests
    assert len(requests) >= case.get("min_requests", 0), requests
    if "delays" in case:
        assert run.delays == pytest.approx(case["delays"])
    for user_id, count in case.get("stored", {}).items():
        ids = service.daemon.stored_event_ids(user_id)
        assert len(ids) == len(set(ids)) == count, ids
