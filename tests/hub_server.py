"""A small hub on 127.0.0.1 that answers as the real one does: gated, unknown and missing repositories."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Hub(BaseHTTPRequestHandler):
    """One gated model and one gated data set, one model of a type nobody knows, and nothing else."""

    def _answer(self) -> None:
        if self.path.startswith(("/api/models/team/gated", "/team/gated", "/api/datasets/team/gated", "/datasets/team/gated")):
            return self._send(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to team/gated is restricted."})
        if self.path.startswith("/team/new/resolve") and self.path.endswith("/config.json"):
            body = json.dumps({"model_type": "llamo", "architectures": ["LlamoForCausalLM"]}).encode()
            return self._send(200, {"X-Repo-Commit": "0" * 40, "ETag": '"abc"'}, body)
        if self.path.startswith("/api/models/team/new"):
            return self._send(200, {"X-Repo-Commit": "0" * 40}, json.dumps({"id": "team/new", "sha": "0" * 40, "siblings": []}).encode())
        if self.path.startswith("/team/new/"):
            return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "0" * 40})
        return self._send(404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def small_hub() -> Iterator[str]:
    """Run the small hub; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
