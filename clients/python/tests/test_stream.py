"""Live updates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from harness import PATIENCE, Daemon, FaultProxy

from sequor import AsyncSequorClient, Event, RetryPolicy, SequorClient, SequorError


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("daemon"))
    daemon.start()
    yield daemon
    daemon.stop()


def test_a_stream_has_a_new_list_after_each_event(daemon: Daemon) -> None:
    with SequorClient(daemon.url) as client:
        lists = client.stream_recommendations("stream-1", limit=5)
        first = next(lists)
        receipt = client.send_events([Event("stream-1", "view", "tea")])
        second = next(lists)
        lists.close()  # type: ignore[attr-defined]
    assert first.fallback != "none"
    assert second.offset == receipt.offset


def test_a_stream_reconnects_after_a_kill(daemon: Daemon) -> None:
    async def scenario() -> None:
        retry = RetryPolicy(attempts=None, base_delay=0.01, max_delay=0.05)
        async with AsyncSequorClient(daemon.url, retry=retry) as client:
            lists = client.stream_recommendations("stream-2", limit=5)
            before = await asyncio.wait_for(anext(lists), PATIENCE)
            daemon.kill()
            daemon.start()
            after = await asyncio.wait_for(anext(lists), PATIENCE)
            assert before.recommendation_id != after.recommendation_id
            await lists.aclose()  # type: ignore[attr-defined]

    asyncio.run(scenario())


def test_a_stream_that_the_daemon_refuses_is_an_error(daemon: Daemon) -> None:
    with SequorClient(daemon.url) as client:
        with pytest.raises(SequorError) as caught:
            next(client.stream_recommendations("stream-3", limit=0))
    assert caught.value.type == "/problems/out-of-range"


def test_a_stream_waits_as_the_policy_says(daemon: Daemon) -> None:
    delays: list[float] = []
    proxy = FaultProxy(daemon.url)
    proxy.plan([{"status": 503, "retry_after": "3"}, {"status": 503}, {"status": 503}])
    policy = RetryPolicy(attempts=3, base_delay=0.2)
    with SequorClient(proxy.url, retry=policy, sleep=delays.append, random=lambda: 0.5) as client:
        with pytest.raises(SequorError, match="503"):
            next(client.stream_recommendations("stream-4"))
    proxy.stop()
    assert delays == pytest.approx([3.1, 0.2])
