"""A bounded queue of events and the thread that sends them."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import process, util
from typing import Literal

from sequor._errors import ConnectionFailed, EventsRejected, SequorError
from sequor._models import Event, Receipt

_log = logging.getLogger("sequor")

OnError = Callable[[Sequence[Event], SequorError], None]


def log_error(events: Sequence[Event], error: SequorError) -> None:
    """Logs events that are lost. The default of `BufferOptions.on_error`."""
    _log.error("%d events failed: %s", len(events), error)


@dataclass(frozen=True)
class BufferOptions:
    """How events are queued and sent.

    The buffer sends a batch if `max_batch` events are queued, or if `flush_interval` seconds have
    passed since the first of them. `capacity` bounds the queue. If the queue is full, `track` waits
    (`block`) or drops the event and counts it (`drop`). `close_timeout` bounds the wait at exit, in
    seconds. `on_error` gets every event that is lost: rejected, refused, or unsent at exit. If a
    request is without a response at exit, its events can be stored: the error is a
    `ConnectionFailed`.
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
        for name, seconds in (("flush_interval", self.flush_interval), ("close_timeout", self.close_timeout)):
            if not 0 <= seconds <= threading.TIMEOUT_MAX:
                raise ValueError(f"{name} is {seconds}; it must be 0 to {threading.TIMEOUT_MAX:.0f} seconds")


@dataclass(frozen=True)
class BufferStats:
    """Numbers of events. Every event that was tracked is in exactly one of them.

    `duplicates` were stored by an earlier attempt whose response was lost. `withheld` were not
    stored, because their users have not given consent. `failed` were refused, or had no response at
    the close.
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


def close_errors(close_timeout: float) -> tuple[SequorError, SequorError]:
    """The errors of the events in flight and of the other events at the end of `close`."""
    unknown = (
        f"no response within {close_timeout} s after close: the daemon may have stored the events. "
        "It is safe to send them again with the same `event_id`."
    )
    return ConnectionFailed(unknown), SequorError(f"not sent within {close_timeout} s after close")


class EventBuffer:
    """Sends events from a thread, in the order in which they were added.

    `send` retries until the daemon has stored or refused the batch. The batch stays in the queue
    until then. The thread starts with the first event, also after a fork. A fork leaves the queued
    events to the parent.

    `on_error` runs in that thread, which must not wait for itself: there, a full queue drops events,
    and `flush` and `close` return at once.
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
        # The first events of the queue, which are being sent.
        self._in_flight = 0
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

    @property
    def is_sending_thread(self) -> bool:
        """Whether the caller is `on_error`, in the thread that sends events."""
        return self._thread is threading.current_thread()

    def add(self, event: Event) -> bool:
        """Queues an event. Returns False if it was dropped, because the queue is full."""
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the client is closed")
            self._start()
            while len(self._queue) >= self._options.capacity:
                if self._options.when_full == "drop" or self.is_sending_thread:
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
            if self.is_sending_thread:
                return not self._queue
            self._pending_flushes += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._queue, timeout)
            finally:
                self._pending_flushes -= 1

    def close(self) -> None:
        """Sends all queued events, for at most `close_timeout` seconds. Reports the rest to `on_error`."""
        if self.is_sending_thread:
            # This thread must send the rest, so another one limits the time.
            threading.Thread(target=self.close, name="sequor-close").start()
            return
        with self._changed:
            if self._is_closed:
                self._changed.wait_for(lambda: self._is_abandoned)
                return
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(self._options.close_timeout)
        with self._changed:
            self._is_abandoned = True
            rest = list(self._queue)
            in_flight, unsent = rest[: self._in_flight], rest[self._in_flight :]
            self._queue.clear()
            self._stats = replace(self._stats, failed=self._stats.failed + len(rest))
            self._changed.notify_all()
        unknown, not_sent = close_errors(self._options.close_timeout)
        self._report(in_flight, unknown)
        self._report(unsent, not_sent)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sequor-events", daemon=True)
            self._thread.start()
            _close_at_end_of_worker()

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                receipt = self._send(batch)
            except SequorError as error:
                self._settle(batch, None, batch, error)
            except Exception as error:
                # A defect. The thread goes on with the next batch.
                self._settle(batch, None, batch, SequorError(f"the batch cannot be sent: {error!r}"))
            else:
                rejected = [batch[entry.index] for entry in receipt.rejected]
                rejection = EventsRejected(receipt.rejected) if rejected else None
                self._settle(batch, receipt, rejected, rejection)

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
            self._in_flight = min(len(self._queue), self._options.max_batch)
            return [self._queue[index] for index in range(self._in_flight)]

    def _settle(
        self,
        batch: Sequence[Event],
        receipt: Receipt | None,
        lost: Sequence[Event],
        error: SequorError | None,
    ) -> None:
        """Removes and counts a batch, and reports its lost events, unless `close` has done so."""
        with self._changed:
            if self._is_abandoned:
                return
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


_buffers: weakref.WeakSet[EventBuffer] = weakref.WeakSet()


def _close_all() -> None:
    for buffer in list(_buffers):
        buffer.close()


atexit.register(_close_all)


_finalizers: dict[int, util.Finalize] = {}


def _close_at_end_of_worker() -> None:
    """Closes the buffers of a worker of `multiprocessing`, which ends without `atexit`."""
    if process.parent_process() is not None and os.getpid() not in _finalizers:
        _finalizers[os.getpid()] = util.Finalize(None, _close_all, exitpriority=10)
