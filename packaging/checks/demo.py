"""Runs a command while the demo of an installed binary serves recommendations: `demo.py BINARY VERSION [COMMAND...]`.

The command gets the address of the demo's API in SEQUOR_URL. The demo runs in an empty folder.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

DEADLINE_SECONDS = 120


def api_address(demo: subprocess.Popen[str]) -> str:
    """The address that the demo prints as `API http://…`."""
    assert demo.stdout is not None
    printed = []
    for line in demo.stdout:
        printed.append(line)
        words = line.split()
        if words[:1] == ["API"]:
            return words[1]
    sys.exit(f"the demo printed no address of the API, but:\n{''.join(printed)}")


def wait_for_recommendations(api: str) -> list[str]:
    """The items of the first list that is not empty."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        with urllib.request.urlopen(
            f"{api}/v1/users/visitor/recommendations?limit=5", timeout=30
        ) as response:
            items = [item["item_id"] for item in json.load(response)["items"]]
        if items:
            return items
        time.sleep(0.1)
    sys.exit(f"the demo recommended nothing within {DEADLINE_SECONDS} s")


def main() -> None:
    binary, version, *command = sys.argv[1:]
    said = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if said != f"sequor {version}":
        sys.exit(f"{binary} is {said!r} instead of 'sequor {version}'")
    with tempfile.TemporaryDirectory() as folder:
        demo = subprocess.Popen(
            [binary, "demo", "--rate", "100"],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            text=True,
        )
        # A demo that hangs ends with an error instead of a test without an end.
        guard = threading.Timer(2 * DEADLINE_SECONDS, demo.kill)
        guard.start()
        try:
            api = api_address(demo)
            items = wait_for_recommendations(api)
            if command:
                subprocess.run(command, check=True, cwd=folder, env=os.environ | {"SEQUOR_URL": api})
            demo.send_signal(signal.SIGINT)
            demo.communicate()
        finally:
            guard.cancel()
            demo.kill()
        if demo.returncode != 0:
            sys.exit(f"the demo ended with {demo.returncode} after SIGINT")
        left = sorted(path.name for path in Path(folder).iterdir())
        if left:
            sys.exit(f"the demo left files behind: {left}")
    print(f"   recommended {', '.join(items)}")


main()
