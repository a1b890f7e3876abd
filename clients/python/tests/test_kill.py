"""A daemon that is killed under load has every event once."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from harness import PATIENCE, Daemon, wait_until

from sequor import AsyncSequorClient, BufferOptions, Event, RetryPolicy, SequorClient

EVENTS = 3000
RETRY = RetryPolicy(base_delay=0.01, max_delay=0.1)
BUFFER = BufferOptions(max_batch=50, flush_interval=0.05, capacity=200, close_timeout=PATIENCE)


def restart_after(
    daemon: Daemon, client: SequorClient | AsyncSequorClient, accepted: int
) -> threading.Thread:
    """Kills the daemon once it has acknowledged events, and starts it again."""

    def kill_and_start() -> None:
        wait_until("the daemon acknowledges events", lambda: client.buffer.stats.accepted >= accepted)
        daemon.kill()
        daemon.start()

    thread = threading.Thread(target=kill_and_start)
    thread.start()
    return thread


def assert_each_once(daemon: Daemon, events: list[Event]) -> None:
    daemon.stop()
    exported = daemon.exported_event_ids()
    assert set(exported) == {event.event_id for event in events}
    assert set(exported.values()) == {1}


def events() -> list[Event]:
    return [Event(f"u{number % 100}", "view", f"i{number % 500}") for number in range(EVENTS)]


@pytest.mark.parametrize("accepted", [50, 1000])
def test_events_of_the_synchronous_client_survive_a_kill(tmp_path: Path, accepted: int) -> None:
    daemon = Daemon(tmp_path)
    daemon.start()
    tracked = events()
    with SequorClient(daemon.url, retry=RETRY, buffer=BUFFER) as client:
        killer = restart_after(daemon, client, accepted)
        for event in tracked:
            client.track(event)
        killer.join()
    stats = client.buffer.stats
    assert (stats.accepted + stats.duplicates, stats.failed, stats.dropped) == (EVENTS, 0, 0)
    assert_each_once(daemon, tracked)


def test_events_of_the_asynchronous_client_survive_a_kill(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.start()
    tracked = events()

    async def scenario() -> None:
        async with AsyncSequorClient(daemon.url, retry=RETRY, buffer=BUFFER) as client:
            killer = restart_after(daemon, client, 500)
            for event in tracked:
                await client.track(event)
            await asyncio.to_thread(killer.join)

    asyncio.run(scenario())
    assert_each_once(daemon, tracked)
