"""A bounded queue of events and the task that sends them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from sequor._buffer import BufferOptions, BufferStats, close_errors
from sequor._errors import EventsRejected, SequorError
from sequor._models import Event, Receipt

_log = logging.getLogger("sequor")


class AsyncEventBuffer:
    """Sends events from a task, in the order in which they were added.

    It behaves like `EventBuffer`. The event loop must run until `close`, because Python runs no
    task at exit.
    """

    def __init__(self, send: Callable[[Sequence[Event]], Awaitable[Receipt]], options: BufferOptions) -> None:
        self._send = send
        self._options = options
        self._changed = asyncio.Condition()
        self._queue: deque[Event] = deque()
        # The first events of the queue, which are being sent.
        self._in_flight = 0
        self._stats = BufferStats()
        self._task: asyncio.Task[None] | None = None
        self._pending_flushes = 0
        self._is_closed = False

    @property
    def stats(self) -> BufferStats:
        """The numbers of events so far."""
        return replace(self._stats, queued=len(self._queue))

    async def add(self, event: Event) -> bool:
        """Queues an event. Returns False if it was dropped, because the queue is full."""
        async with self._changed:
            if self._is_closed:
                raise RuntimeError("the client is closed")
            if self._task is None:
                self._task = asyncio.create_task(self._run(), name="sequor-events")
            while len(self._queue) >= self._options.capacity:
                if self._options.when_full == "drop":
                    self._stats = replace(self._stats, dropped=self._stats.dropped + 1)
                    return False
                await self._changed.wait()
                if self._is_closed:
                    raise RuntimeError("the client is closed")
            self._queue.append(event)
            if len(self._queue) in (1, self._options.max_batch):
                self._changed.notify_all()
            return True

    async def flush(self) -> None:
        """Sends all queued events at once. Use `asyncio.timeout` to bound the wait."""
        async with self._changed:
            self._pending_flushes += 1
            self._changed.notify_all()
            try:
                await self._changed.wait_for(lambda: not self._queue)
            finally:
                self._pending_flushes -= 1

    async def close(self) -> None:
        """Sends all queued events, for at most `close_timeout` seconds. Reports the rest to `on_error`."""
        async with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()
        if self._task is not None:
            try:
                async with asyncio.timeout(self._options.close_timeout):
                    # `wait` does not cancel the task at the timeout.
                    await asyncio.wait([self._task])
                    # At its end, `asyncio.run` cancels the task as well as the caller.
                    await self._run()
            except TimeoutError:
                pass
            self._task.cancel()
        rest = list(self._queue)
        in_flight, unsent = rest[: self._in_flight], rest[self._in_flight :]
        self._queue.clear()
        self._stats = replace(self._stats, failed=self._stats.failed + len(rest))
        unknown, not_sent = close_errors(self._options.close_timeout)
        self._report(in_flight, unknown)
        self._report(unsent, not_sent)

    async def _run(self) -> None:
        while batch := await self._next_batch():
            try:
                receipt = await self._send(batch)
            except SequorError as error:
                await self._settle(batch, None, batch, error)
            except Exception as error:
                # A defect. The task goes on with the next batch.
                await self._settle(batch, None, batch, SequorError(f"the batch cannot be sent: {error!r}"))
            else:
                rejected = [batch[entry.index] for entry in receipt.rejected]
                rejection = EventsRejected(receipt.rejected) if rejected else None
                await self._settle(batch, receipt, rejected, rejection)

    async def _next_batch(self) -> list[Event]:
        """Waits for a batch. Empty after `close`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._queue or self._is_closed)

            def is_due() -> bool:
                return (
                    len(self._queue) >= self._options.max_batch
                    or self._is_closed
                    or self._pending_flushes > 0
                )

            try:
                await asyncio.wait_for(self._changed.wait_for(is_due), self._options.flush_interval)
            except TimeoutError:
                pass
            self._in_flight = min(len(self._queue), self._options.max_batch)
            return [self._queue[index] for index in range(self._in_flight)]

    async def _settle(
        self,
        batch: Sequence[Event],
        receipt: Receipt | None,
        lost: Sequence[Event],
        error: SequorError | None,
    ) -> None:
        """Removes and counts a batch, and reports its lost events."""
        async with self._changed:
            for _ in batch:
                self._queue.popleft()
            self._in_flight = 0
            self._stats = self._stats.after_batch(len(batch), receipt)
            self._changed.notify_all()
        if error is not None:
            self._report(lost, error)

    def _report(self, events: Sequence[Event], error: SequorError) -> None:
        if not events:
            return
        try:
            self._options.on_error(events, error)
        except Exception:
            _log.exception("on_error failed")
