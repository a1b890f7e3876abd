"""Sends events at a constant rate while the daemon is killed and started again. Counts the stored events.

SEQUOR_BINARY=target/release/sequor python benchmarks/load.py --rate 5000 --duration 30
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import PATIENCE, Daemon

from sequor import BufferOptions, Event, SequorClient


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=5000, help="events per second")
    parser.add_argument("--duration", type=float, default=30, help="seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # The learner can fall behind the load, so that the result is the rate of accepted events.
        daemon = Daemon(Path(folder), ["server.max_lag_events=1000000"])
        daemon.start()
        outage: list[float] = []

        def kill_and_start() -> None:
            started = time.monotonic()
            daemon.kill()
            daemon.start()
            outage.append(time.monotonic() - started)

        killer = threading.Timer(arguments.duration / 2, kill_and_start)
        count = int(arguments.rate * arguments.duration)
        # The queue holds the events of an outage of 20 seconds.
        options = BufferOptions(
            max_batch=1000, flush_interval=0.1, capacity=20 * arguments.rate, close_timeout=PATIENCE
        )
        started = time.monotonic()
        with SequorClient(daemon.url, buffer=options) as client:
            killer.start()
            ids = set()
            for number in range(count):
                event = Event(f"u{number % 1000}", "view", f"i{number % 5000}")
                client.track(event)
                ids.add(event.event_id)
                ahead = started + number / arguments.rate - time.monotonic()
                if ahead > 0.002:
                    time.sleep(ahead)
            tracked = time.monotonic() - started
            client.flush()
            stored = time.monotonic() - started
            killer.join()
        daemon.stop()
        exported = daemon.exported_event_ids()
    stats = client.buffer.stats
    lost = len(ids - exported.keys())
    doubled = sum(exported.values()) - len(exported)
    print(f"tracked {count} events in {tracked:.1f} s: {count / tracked:.0f} events/s")
    print(f"stored after {stored:.1f} s: {count / stored:.0f} events/s; down for {outage[0]:.1f} s")
    print(
        f"accepted {stats.accepted}, duplicates {stats.duplicates}, "
        f"dropped {stats.dropped}, failed {stats.failed}"
    )
    print(f"lost {lost}, doubled {doubled}")
    if lost or doubled:
        sys.exit(1)


if __name__ == "__main__":
    main()
