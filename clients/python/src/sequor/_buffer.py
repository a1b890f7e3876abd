"""A bounded queue of events and the thread that sends them."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sequor._errors import EventsRejected, SequorError
from sequor._models import Event, Receipt

_log = logging.getLogger("sequor")

OnError = Callable[[Sequence[Event], SequorError], None]


def log_error(events: Sequence[Event], error: SequorError) -> None:
    """Logs events that are lost. The default of `BufferOptions.on_error`."""
    _log.error("%d events are lost: %s", len(events), error)


@dataclass(frozen=True)
class BufferOptions:
    """How events are queued and sent.

    The buffer sends a batch if `max_batch` events are queued, or if `flush_interval` seconds have
    passed since the first of them. `capacity` bounds the queue. If the queue is full, `track` waits
    (`block`) or drops the event and counts it (`drop`). `close_timeout` bounds the wait at exit, in
    seconds. `on_error` gets every event that is lost: rejected, refused, or unsent at exit.
    """

    max_batch: int = 500
    flush_interval: float = 1.0
    capacity: int = 10_000
    when_full: Literal["block", "drop"] = "block"
    close_timeout: float = 10.0
    on_error: OnError = log_error

    def __post_init__(self) -> None:
        if not 1 <= self.max_batch <= self.capacity:
            raise ValueError(f"max_batch is {self.max_batch}; it must be 1 to capacity ({self.capacity})")
        if self.when_full not in ("block", "drop"):
            raise ValueError(f"when_full is {self.when_full!r}; it must be 'block' or 'drop'")


@dataclass(frozen=True)
class BufferStats:
    """Numbers of events. Every event that was tracked is in exactly one of them.

    `duplicates` were stored by an earlier attempt whose response was lost. `withheld` were not
    stored, because their users have not given consent.
    """

    queued: int = 0
    accepted: int = 0
    duplicates: int = 0
    withheld: int = 0
    rejected: int = 0
    dropped: int = 0
    failed: int = 0

    def after_batch(self, size: int, receipt: Receipt | None) -> BufferStats:
        """The numbers after a batch was sent. Without a receipt, its events are lost."""
        if receipt is None:
            return replace(self, failed=self.failed + size)
        return replace(
            self,
            accepted=self.accepted + receipt.accepted,
            duplicates=self.duplicates + receipt.duplicates,
            withheld=self.withheld + receipt.withheld,
            rejected=self.rejected + len(receipt.rejected),
        )


class EventBuffer:
    """Sends events from a thread, in the order in which they were added.

    `send` retries until the daemon has stored or refused the batch. The batch stays in the queue
    until then. The thread starts with the first event, also after a fork. A fork leaves the queued
    events to the parent.
    """

    def __init__(self, send: Callable[[Sequence[Event]], Receipt], options: BufferOptions) -> None:
        self._send = send
        self._options = options
        self.reset_after_fork()
        _buffers.add(self)

    def reset_after_fork(self) -> None:
        """Empties the queue. The thread of the parent does not exist in the child."""
        self._changed = threading.Condition()
        self._queue: deque[Event] = deque()
        self._stats = BufferStats()
        self._thread: threading.Thread | None = None
        self._pending_flushes = 0
        self._is_closed = False
        self._is_abandoned = False

    @property
    def stats(self) -> BufferStats:
        """The numbers of events so far."""
        with self._changed:
            return replace(self._stats, queued=len(self._queue))

    def add(self, event: Event) -> bool:
        """Queues an event. Returns False if it was dropped, because the queue is full."""
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the client is closed")
            self._start()
            while len(self._queue) >= self._options.capacity:
                if self._options.when_full == "drop":
                    self._stats = replace(self._stats, dropped=self._stats.dropped + 1)
                    return False
                self._changed.wait()
                if self._is_closed:
                    raise RuntimeError("the client is closed")
            self._queue.append(event)
            if len(self._queue) in (1, self._options.max_batch):
                self._changed.notify_all()
            return True

    def flush(self, timeout: float | None = None) -> bool:
        """Sends all queued events at once. Returns False if that takes longer than `timeout` seconds."""
        with self._changed:
            self._pending_flushes += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._queue, timeout)
            finally:
                self._pending_flushes -= 1

    def close(self) -> None:
        """Sends all queued events, for at most `close_timeout` seconds. Reports the rest to `on_error`."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(self._options.close_timeout)
        with self._changed:
            self._is_abandoned = True
            unsent = list(self._queue)
            self._queue.clear()
            self._stats = replace(self._stats, failed=self._stats.failed + len(unsent))
            self._changed.notify_all()
        if unsent:
            self._report(unsent, SequorError(f"not sent within {self._options.close_timeout} s after close"))

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sequor-events", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                receipt = self._send(batch)
            except SequorError as error:
                self._remove(batch)
                self._report(batch, error)
            except Exception as error:
                # A defect, or an event that is not JSON. The thread goes on with the next batch.
                self._remove(batch)
                self._report(batch, SequorError(f"the batch cannot be sent: {error!r}"))
            else:
                self._remove(batch, receipt)
                if receipt.rejected:
                    rejected = [batch[entry.index] for entry in receipt.rejected]
                    self._report(rejected, EventsRejected(receipt.rejected))

    def _next_batch(self) -> list[Event]:
        """Waits for a batch. Empty after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_closed)

            def is_due() -> bool:
                return (
                    len(self._queue) >= self._options.max_batch
                    or self._is_closed
                    or self._pending_flushes > 0
                )

            self._changed.wait_for(is_due, self._options.flush_interval)
            if self._is_abandoned:
                return []
            count = min(len(self._queue), self._options.max_batch)
            return [self._queue[index] for index in range(count)]

    def _remove(self, batch: Sequence[Event], receipt: Receipt | None = None) -> None:
        """Removes a batch that was sent. Without a receipt, its events are lost."""
        with self._changed:
            if self._is_abandoned:
                return
            for _ in batch:
                self._queue.popleft()
            self._stats = self._stats.after_batch(len(batch), receipt)
            self._changed.notify_all()

    def _report(self, events: Sequence[Event], error: SequorError) -> None:
        try:
            self._options.on_error(events, error)
        except Exception:
            _log.exception("on_error failed")


_buffers: weakref.WeakSet[EventBuffer] = weakref.WeakSet()


def _close_all() -> None:
    for buffer in list(_buffers):
        buffer.close()


atexit.register(_close_all)
