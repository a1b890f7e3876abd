"""When the buffer sends, what it does if it is full, and what it loses."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest
from harness import PATIENCE, Daemon, free_port, wait_until

from sequor import (
    AsyncEventBuffer,
    AsyncSequorClient,
    BufferOptions,
    Event,
    EventBuffer,
    Receipt,
    SequorClient,
    SequorError,
)

NEVER = 3600.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("daemon"))
    daemon.start()
    yield daemon
    daemon.stop()


def view(user_id: str, item: int = 0) -> Event:
    return Event(user_id, "view", f"i{item}")


class GatedSend:
    """Records batches. Each waits until the test opens the gate."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started = threading.Event()
        self.batches: list[int] = []

    def __call__(self, events: Sequence[Event]) -> Receipt:
        self.started.set()
        assert self.gate.wait(PATIENCE)
        self.batches.append(len(events))
        return Receipt(accepted=len(events))


def test_a_full_batch_is_sent_at_once(daemon: Daemon) -> None:
    with SequorClient(daemon.url, buffer=BufferOptions(max_batch=3, flush_interval=NEVER)) as client:
        for number in range(3):
            client.track(view("size-1", number))
        wait_until("the batch is stored", lambda: client.buffer.stats.accepted == 3)
    assert len(daemon.stored_event_ids("size-1")) == 3


def test_an_incomplete_batch_is_sent_after_the_interval(daemon: Daemon) -> None:
    with SequorClient(daemon.url, buffer=BufferOptions(flush_interval=0.01)) as client:
        client.track(view("time-1"))
        wait_until("the event is stored", lambda: client.buffer.stats.accepted == 1)


def test_close_sends_the_rest(daemon: Daemon) -> None:
    with SequorClient(daemon.url, buffer=BufferOptions(flush_interval=NEVER)) as client:
        client.track(view("close-1"))
    assert len(daemon.stored_event_ids("close-1")) == 1
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.track(view("close-1"))


def test_the_exit_of_the_program_sends_the_rest(daemon: Daemon) -> None:
    program = (
        "from sequor import *\n"
        f"client = SequorClient({daemon.url!r}, buffer=BufferOptions(flush_interval={NEVER}))\n"
        "client.track(Event('exit-1', 'view', 'tea'))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)
    assert len(daemon.stored_event_ids("exit-1")) == 1


def test_a_forked_child_has_a_buffer_of_its_own(daemon: Daemon) -> None:
    client = SequorClient(daemon.url, buffer=BufferOptions(flush_interval=NEVER))
    client.track(view("fork-parent"))
    child = os.fork()
    if child == 0:
        try:
            client.track(view("fork-child"))
            client.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert len(daemon.stored_event_ids("fork-child")) == 1
    assert daemon.stored_event_ids("fork-parent") == []
    client.close()
    assert len(daemon.stored_event_ids("fork-parent")) == 1


def test_events_keep_the_time_at_which_they_were_tracked() -> None:
    sent: list[Event] = []

    def send(events: Sequence[Event]) -> Receipt:
        sent.extend(events)
        return Receipt(accepted=len(events))

    client = SequorClient(clock=lambda: 1_700_000_000.5)
    client.buffer = EventBuffer(send, BufferOptions(flush_interval=NEVER))
    client.track(view("stamp-1"))
    client.track(Event("stamp-1", "view", "tea", timestamp=5_000_000_000_000))
    client.close()
    assert [event.to_json()["timestamp"] for event in sent] == [
        "2023-11-14T22:13:20.500000+00:00",
        5_000_000_000_000,
    ]


def test_an_address_without_http_is_an_error() -> None:
    with pytest.raises(ValueError, match="base_url is 'localhost:8080'; it must begin with http://"):
        SequorClient("localhost:8080")


def test_an_event_without_a_json_form_is_refused_where_it_is_tracked() -> None:
    with SequorClient() as client:
        with pytest.raises(TypeError, match="not JSON serializable"):
            client.track(Event("json-1", "view", "tea", properties={"seen": {1, 2}}))
        with pytest.raises(ValueError, match="JSON"):
            client.track(Event("json-1", "rate", "tea", value=float("nan")))


def test_a_full_queue_blocks_until_a_batch_is_stored() -> None:
    send = GatedSend()
    buffer = EventBuffer(send, BufferOptions(max_batch=2, capacity=2, flush_interval=NEVER))
    buffer.add(view("block-1"))
    buffer.add(view("block-1"))
    blocked = threading.Thread(target=buffer.add, args=[view("block-1")])
    blocked.start()
    assert send.started.wait(PATIENCE)
    # The queue holds the two events of the batch until they are stored.
    assert blocked.is_alive() and buffer.stats.queued == 2
    send.gate.set()
    blocked.join(PATIENCE)
    assert not blocked.is_alive()
    buffer.close()
    assert send.batches == [2, 1]
    assert (buffer.stats.accepted, buffer.stats.dropped) == (3, 0)


def test_a_full_queue_drops_and_counts_if_told_so() -> None:
    send = GatedSend()
    buffer = EventBuffer(send, BufferOptions(max_batch=2, capacity=2, flush_interval=NEVER, when_full="drop"))
    assert [buffer.add(view("drop-1")) for _ in range(5)] == [True, True, False, False, False]
    assert buffer.stats.dropped == 3
    send.gate.set()
    buffer.close()
    assert (buffer.stats.accepted, buffer.stats.queued, buffer.stats.dropped) == (2, 0, 3)


def test_events_that_are_not_sent_at_close_are_reported() -> None:
    lost: list[Event] = []
    send = GatedSend()
    options = BufferOptions(close_timeout=0.01, on_error=lambda events, error: lost.extend(events))
    buffer = EventBuffer(send, options)
    events = [view("lost-1", number) for number in range(3)]
    for event in events:
        buffer.add(event)
    buffer.close()
    send.gate.set()
    assert lost == events
    assert (buffer.stats.failed, buffer.stats.queued) == (3, 0)


def test_flush_waits_for_all_events_or_the_timeout() -> None:
    send = GatedSend()
    buffer = EventBuffer(send, BufferOptions(flush_interval=NEVER))
    buffer.add(view("flush-1"))
    assert buffer.flush(timeout=0.01) is False
    send.gate.set()
    assert buffer.flush(timeout=PATIENCE) is True
    assert buffer.stats.accepted == 1
    buffer.close()


def test_an_error_in_on_error_does_not_stop_the_buffer() -> None:
    attempts: list[int] = []

    def send(events: Sequence[Event]) -> Receipt:
        attempts.append(len(events))
        raise SequorError("refused")

    def fail(events: Sequence[Event], error: SequorError) -> None:
        raise RuntimeError("defect")

    buffer = EventBuffer(send, BufferOptions(max_batch=1, on_error=fail))
    buffer.add(view("fail-1"))
    buffer.add(view("fail-1"))
    buffer.close()
    assert attempts == [1, 1]
    assert buffer.stats.failed == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch": 0}, "max_batch is 0; it must be 1 to capacity"),
        ({"max_batch": 11, "capacity": 10}, "max_batch is 11; it must be 1 to capacity"),
        ({"when_full": "wait"}, "when_full is 'wait'; it must be 'block' or 'drop'"),
    ],
)
def test_invalid_options_are_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BufferOptions(**options)  # type: ignore[arg-type]


def test_the_asynchronous_buffer_blocks_drops_and_closes() -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        batches: list[int] = []

        async def send(events: Sequence[Event]) -> Receipt:
            await gate.wait()
            batches.append(len(events))
            return Receipt(accepted=len(events))

        blocking = AsyncEventBuffer(send, BufferOptions(max_batch=2, capacity=2, flush_interval=NEVER))
        dropping = AsyncEventBuffer(
            send, BufferOptions(max_batch=2, capacity=2, flush_interval=NEVER, when_full="drop")
        )
        assert [await dropping.add(view("async-1")) for _ in range(3)] == [True, True, False]
        await blocking.add(view("async-1"))
        await blocking.add(view("async-1"))
        blocked = asyncio.create_task(blocking.add(view("async-1")))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not blocked.done()
        gate.set()
        assert await asyncio.wait_for(blocked, PATIENCE)
        await blocking.close()
        await dropping.close()
        assert sorted(batches) == [1, 2, 2]
        assert (dropping.stats.accepted, dropping.stats.dropped) == (2, 1)
        assert blocking.stats.accepted == 3

    asyncio.run(scenario())


def test_the_asynchronous_client_reports_events_that_are_not_sent_at_close() -> None:
    lost: list[Event] = []

    async def scenario() -> None:
        options = BufferOptions(close_timeout=0.01, on_error=lambda events, error: lost.extend(events))
        client = AsyncSequorClient(f"http://127.0.0.1:{free_port()}", buffer=options)
        await client.track(view("lost-2"))
        await client.close()
        assert client.buffer.stats.failed == 1

    asyncio.run(scenario())
    assert [event.user_id for event in lost] == ["lost-2"]
