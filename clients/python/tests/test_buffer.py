"""When the buffer sends, what it does if it is full, and what it loses."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from harness import PATIENCE, Daemon, free_port, wait_until

from sequor import (
    AsyncEventBuffer,
    AsyncSequorClient,
    BufferOptions,
    ConnectionFailed,
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


def test_invalid_arguments_are_errors_that_repeat_no_secret() -> None:
    for key in ("secret\r", "secret\nx: y", "secret-ключ"):
        with pytest.raises(ValueError, match="the key has a character") as error:
            SequorClient(key=key)
        assert "secret" not in str(error.value)
    with pytest.raises(ValueError, match="has a user name or a password") as error:
        SequorClient("http://ann:secret@127.0.0.1")
    assert "secret" not in str(error.value)
    with pytest.raises(ValueError, match="timeout is 0; it must be more than 0 seconds"):
        SequorClient(timeout=0)
    with SequorClient() as client:
        for item in ("", ".", ".."):
            with pytest.raises(ValueError, match="cannot be in a URL"):
                client.recommendations(item)


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


def test_events_at_close_are_reported_once_and_those_in_flight_as_unknown() -> None:
    reports: list[tuple[list[Event], SequorError]] = []
    send = GatedSend()
    options = BufferOptions(
        max_batch=2, close_timeout=0.01, on_error=lambda events, error: reports.append((list(events), error))
    )
    buffer = EventBuffer(send, options)
    events = [view("lost-1", number) for number in range(3)]
    for event in events:
        buffer.add(event)
    assert send.started.wait(PATIENCE)
    buffer.close()
    send.gate.set()
    wait_until("the late response", lambda: send.batches == [2])
    buffer.close()
    (in_flight, unknown), (unsent, not_sent) = reports
    assert (in_flight, unsent) == (events[:2], events[2:])
    assert isinstance(unknown, ConnectionFailed) and "may have stored the events" in str(unknown)
    assert not isinstance(not_sent, ConnectionFailed) and "not sent within 0.01 s" in str(not_sent)
    assert (buffer.stats.failed, buffer.stats.queued, buffer.stats.accepted) == (3, 0, 0)


def test_later_changes_to_an_event_do_not_reach_the_queue(daemon: Daemon) -> None:
    properties: dict[str, object] = {"list": [1]}
    with SequorClient(daemon.url, buffer=BufferOptions(flush_interval=NEVER)) as client:
        client.track(Event("snapshot-1", "view", "tea", properties=properties, context={"a": 1}))
        client.track(view("snapshot-1", 2))
        properties["list"] = object()
    assert (client.buffer.stats.accepted, client.buffer.stats.failed) == (2, 0)


@pytest.mark.parametrize("call", ["close", "flush", "track"])
def test_on_error_can_use_the_client(call: str) -> None:
    used: list[object] = []
    client = SequorClient()
    is_first = True

    def send(events: Sequence[Event]) -> Receipt:
        nonlocal is_first
        if is_first:
            is_first = False
            raise SequorError("refused")
        return Receipt(accepted=len(events))

    def use(events: Sequence[Event], error: SequorError) -> None:
        if call == "track":
            used.append([client.track(view("use-1")) for _ in range(3)])
        else:
            used.append(getattr(client, call)())

    client.buffer = EventBuffer(send, BufferOptions(max_batch=1, capacity=2, on_error=use))
    client.track(view("use-1"))
    wait_until("the call", lambda: len(used) == 1)
    client.close()
    expected = {"close": None, "flush": True, "track": [True, True, False]}[call]
    assert used == [expected]
    stats = client.buffer.stats
    assert (stats.failed, stats.queued, stats.accepted) == (1, 0, 2 if call == "track" else 0)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("is_inherited", [True, False])
def test_workers_of_multiprocessing_send_their_queues(
    daemon: Daemon, method: str, is_inherited: bool
) -> None:
    user = f"worker-{method}-{is_inherited}"
    program = (
        "import multiprocessing, os, sys\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from sequor import *\n"
        "def make():\n"
        f"    return SequorClient({daemon.url!r}, buffer=BufferOptions(flush_interval={NEVER}))\n"
        f"client = make() if {is_inherited} else None\n"
        "def work(number):\n"
        "    global client\n"
        "    client = client or make()\n"
        f"    client.track(Event({user!r}, 'view', f'i{{number}}'))\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context({method!r})\n"
        "    if client: work(0)\n"
        "    with ProcessPoolExecutor(2, mp_context=context) as pool:\n"
        "        list(pool.map(work, range(1, 7)))\n"
        "    process = context.Process(target=work, args=(7,))\n"
        "    process.start()\n"
        "    process.join()\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "program.py")
        script.write_text(program)
        subprocess.run([sys.executable, script], check=True, timeout=PATIENCE)
    assert len(daemon.stored_event_ids(user)) == (8 if is_inherited else 7)


def test_the_recipe_for_sigterm_sends_the_rest(daemon: Daemon) -> None:
    readme = Path(__file__).parent.parent.joinpath("README.md").read_text()
    (recipe,) = [
        block.split("```")[0] for block in readme.split("```python\n") if "SIGTERM" in block.split("```")[0]
    ]
    program = (
        f"{recipe}\nimport os, time\nfrom sequor import *\n"
        f"client = SequorClient({daemon.url!r}, buffer=BufferOptions(flush_interval={NEVER}))\n"
        "client.track(Event('sigterm-1', 'view', 'tea'))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=PATIENCE).returncode == 0
    assert len(daemon.stored_event_ids("sigterm-1")) == 1


def test_the_end_of_asyncio_run_sends_the_rest(daemon: Daemon) -> None:
    async def use_the_client() -> None:
        async with AsyncSequorClient(daemon.url, buffer=BufferOptions(flush_interval=NEVER)) as client:
            clients.append(client)
            for number in range(5):
                await client.track(view("cancel-1", number))
            await asyncio.sleep(NEVER)

    async def main() -> None:
        tasks.append(asyncio.create_task(use_the_client()))
        await asyncio.sleep(0.05)

    clients: list[AsyncSequorClient] = []
    tasks: list[asyncio.Task[None]] = []
    asyncio.run(main())
    assert len(daemon.stored_event_ids("cancel-1")) == 5
    assert (clients[0].buffer.stats.accepted, clients[0].buffer.stats.failed) == (5, 0)


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
        ({"flush_interval": -1}, "flush_interval is -1; it must be 0 to"),
        ({"close_timeout": float("nan")}, "close_timeout is nan; it must be 0 to"),
        ({"close_timeout": float("inf")}, "close_timeout is inf; it must be 0 to"),
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
