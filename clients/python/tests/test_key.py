"""The API key."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from sequor import SequorClient


def test_the_key_is_sent_as_a_bearer_token() -> None:
    keys: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers.get("authorization"))
            self.send_response(200)
            self.send_header("content-length", "12")
            self.end_headers()
            self.wfile.write(b'{"items":[]}')

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with SequorClient(url, key="secret") as client:
        client.trending_items()
    with SequorClient(url) as client:
        client.trending_items()
    server.shutdown()
    server.server_close()
    assert keys == ["Bearer secret", None]
