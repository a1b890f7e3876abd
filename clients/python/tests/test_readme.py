"""Runs the examples of the README and of docs/clients.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import CLIENTS, Daemon

from sequor import SequorClient

PAGES = [CLIENTS / "python" / "README.md", CLIENTS.parent / "docs" / "clients.md"]


def examples() -> list[tuple[str, str]]:
    def blocks(page: Path) -> list[str]:
        found = re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        # A test of the buffer runs the recipe for SIGTERM in a process of its own.
        return [block for block in found if "SIGTERM" not in block]

    return [(f"{page.name}-{n + 1}", block) for page in PAGES for n, block in enumerate(blocks(page))]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("daemon"))
    daemon.start()
    with SequorClient(daemon.url) as client:
        client.put_item("teapot", {"categories": ["pots"]})
    yield daemon
    daemon.stop()


def test_the_pages_have_examples() -> None:
    names = [name for name, _ in examples()]
    assert len([name for name in names if name.startswith("README")]) == 5
    assert len([name for name in names if name.startswith("clients")]) == 1


@pytest.mark.parametrize(("name", "code"), examples(), ids=[name for name, _ in examples()])
def test_an_example_prints_what_it_says(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], name: str, code: str
) -> None:
    promised = re.findall(r"print\(.*\)  # (.*)$", code, flags=re.MULTILINE)
    exec(code.replace("http://localhost:8080", daemon.url), {"__name__": "__main__"})
    printed = capsys.readouterr().out.strip()
    if promised:
        assert printed == "\n".join(promised)
    else:
        assert printed not in ("", "[]", "0")
