"""An HTTP proxy that injects faults. Tests of the clients run it between the client and the daemon.

    python3 fault_proxy.py http://127.0.0.1:8080

It prints its own address. `PUT /faults` takes a JSON list with one fault for each of the following
requests; later requests pass. `GET /requests` returns the requests since then.

    null                                      passes the request
    {"status": 503, "retry_after": "2"}       answers without the daemon; `problem` adds a problem document
    {"reset": "before"}                       resets the connection; the daemon sees nothing
    {"reset": "after"}                        resets the connection after the daemon has answered
    {"hang": true}                            never answers
    {"truncate": true}                        closes the connection in the middle of the daemon's response
"""

import http.client
import io
import json
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}


class FaultPlan:
    """The faults of the following requests, and the requests so far."""

    def __init__(self):
        self._lock = threading.Lock()
        self._faults = []
        self._requests = []

    def replace(self, faults):
        with self._lock:
            self._faults, self._requests = list(faults), []

    def next_fault(self, method, path):
        with self._lock:
            self._requests.append(f"{method} {path}")
            return self._faults.pop(0) if self._faults else None

    def requests(self):
        with self._lock:
            return list(self._requests)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plan = FaultPlan()
    target = ""

    def log_message(self, *args):
        pass

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/faults":
            self.plan.replace(json.loads(body))
            return self.answer(204)
        if self.path == "/requests":
            return self.answer(200, {"content-type": "application/json"}, json.dumps(self.plan.requests()).encode())
        fault = self.plan.next_fault(self.command, self.path)
        if fault is None:
            return self.forward(body)
        if "status" in fault:
            return self.answer_fault(fault)
        if fault.get("reset") == "before":
            return self.reset()
        if fault.get("reset") == "after":
            self.ask_daemon(body)
            return self.reset()
        if fault.get("truncate"):
            return self.truncate(self.ask_daemon(body))
        if fault.get("hang"):
            # The read returns when the client gives up.
            self.connection.recv(1)
            return self.reset()
        raise ValueError(f"unknown fault: {fault}")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_any

    def ask_daemon(self, body):
        connection = http.client.HTTPConnection(self.target, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_HEADERS}
        try:
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            kept = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_HEADERS}
            return response.status, kept, response.read()
        finally:
            connection.close()

    def forward(self, body):
        try:
            answer = self.ask_daemon(body)
        except OSError:
            return self.reset()
        return self.answer(*answer)

    def answer_fault(self, fault):
        headers = {"retry-after": fault["retry_after"]} if "retry_after" in fault else {}
        body = b"upstream failed"
        if "problem" in fault:
            headers["content-type"] = "application/problem+json"
            body = json.dumps(fault["problem"]).encode()
        return self.answer(fault["status"], headers, body)

    def answer(self, status, headers=None, body=b""):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def truncate(self, answer):
        status, headers, body = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.close_connection = True

    def reset(self):
        """Closes the connection with RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.wfile.close()
        self.rfile.close()
        self.connection.close()
        # The base class flushes the files once more.
        self.rfile, self.wfile = io.BytesIO(), io.BytesIO()


def main():
    Handler.target = urlsplit(sys.argv[1]).netloc
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    # The proxy ends with its parent, which holds the other end of the standard input.
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
