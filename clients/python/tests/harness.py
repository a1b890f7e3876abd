"""The daemon and the fault proxy as processes, and the events of a journal."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

CLIENTS = Path(__file__).resolve().parents[2]
SHARED = CLIENTS / "shared"
# A generous limit for waits. No test is faster or slower with another limit, unless it fails.
PATIENCE = 60.0
_http = httpx.Client(timeout=PATIENCE)


def sequor_binary() -> str:
    """The daemon under test: `SEQUOR_BINARY`, or the newest build."""
    named = os.environ.get("SEQUOR_BINARY")
    if named:
        return named
    builds = [CLIENTS.parent / "target" / profile / "sequor" for profile in ("release", "debug")]
    found = [build for build in builds if build.exists()]
    if not found:
        raise RuntimeError("no daemon to test: run `cargo build`, or set SEQUOR_BINARY")
    return str(found[0])


def free_port() -> int:
    """A free port below the ports of outgoing connections, which could take it during a restart."""
    for port in random.sample(range(32000, 32100), 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("the ports 32000 to 32099 are in use")


class Daemon:
    """A daemon with a data directory and a port that outlive its restarts."""

    def __init__(self, folder: Path, settings: Iterable[str] = ()) -> None:
        self.data_dir = folder / "data"
        self._settings = [part for setting in settings for part in ("--set", setting)]
        self._port = free_port()
        self._process: subprocess.Popen[str] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [
            sequor_binary(),
            "serve",
            "--data-dir",
            str(self.data_dir),
            "--listen",
            f"127.0.0.1:{self._port}",
        ]
        command += ["--admin-listen", "127.0.0.1:0", "--until-eof", *self._settings]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SEQUOR_")}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if "is ready" not in line:
            raise RuntimeError(f"the daemon did not start: {line}{self._process.stdout.read()}")

    def kill(self) -> None:
        """Kills the daemon with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.communicate()

    def exported_event_ids(self) -> Counter[str]:
        """How often each event id is in the journal of the stopped daemon."""
        command = [sequor_binary(), "export", "--data-dir", str(self.data_dir), "--only", "event"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return Counter(json.loads(line)["event_id"] for line in output.splitlines())

    def stored_event_ids(self, user_id: str) -> list[str]:
        """The ids of a user's events in the journal."""
        response = _http.get(httpx.URL(self.url).copy_with(path=f"/v1/users/{user_id}"))
        response.raise_for_status()
        entries = [json.loads(line) for line in response.text.splitlines()]
        return [entry["event_id"] for entry in entries if entry["entry"] == "event"]


class FaultProxy:
    """The fault proxy in front of a daemon."""

    def __init__(self, target: str) -> None:
        command = [sys.executable, str(SHARED / "fault_proxy.py"), target]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def plan(self, faults: list[Any]) -> None:
        _http.put(f"{self.url}/faults", json=faults).raise_for_status()

    def requests(self) -> list[str]:
        received: list[str] = _http.get(f"{self.url}/requests").json()
        return received

    def stop(self) -> None:
        self._process.communicate()


def wait_until(description: str, condition: Any) -> None:
    """Polls a condition. Fails after a long time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain: {description}"
        time.sleep(0.01)
