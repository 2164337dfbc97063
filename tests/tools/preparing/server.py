"""An HTTP server on the loopback address with the weaknesses of real ones, and the part of the hub that is needed."""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants, file_download


class Server(ThreadingHTTPServer):
    """Serves `files` (path: content).

    Attributes:
        cut: numbers of bytes after which the connection is closed, one for each request to come.
        status: answers to give instead, by path: (code, address to go to or "").
        ranges: whether a part of a file can be asked for.
        etag: whether files have an identity.
        pause: seconds to wait half-way through a file.
        asked: (path, Range header or "") of all requests for files.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.status: dict[str, tuple[int, str]] = {}
        self.ranges = True
        self.etag = True
        self.pause = 0.0
        self.asked: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that has gone is part of the tests
            super().handle_error(request, client_address)

    def add_to_hub(self, repo: str, files: dict[str, bytes], repo_type: str) -> None:
        """Serve `files` as a repository of the Hugging Face hub, which lists them with their sizes and checksums."""
        listing = [
            {
                "type": "file",
                "path": name,
                "size": len(content),
                "oid": hashlib.sha1(content).hexdigest(),
                "lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130},
            }
            for name, content in files.items()
        ]
        self.files[f"/api/{repo_type}s/{repo}/tree/main"] = json.dumps(listing).encode()
        prefix = "/datasets" if repo_type == "dataset" else ""
        for name, content in files.items():
            self.files[f"{prefix}/{repo}/resolve/main/{name}"] = content

    def become_the_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let huggingface_hub take this server for the hub, as HF_ENDPOINT does for a new process."""
        monkeypatch.setattr(constants, "ENDPOINT", self.address)
        address_of_files = f"{self.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for module in (constants, file_download):  # releases before 1.0 read it from the second
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", address_of_files, raising=False)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        server, path = self.server, unquote(urlsplit(self.path).path)
        if urlsplit(self.path).query.startswith("id="):
            path += "?" + urlsplit(self.path).query
        content = server.files.get(path)
        asked = self.headers.get("Range", "")
        if body:
            server.asked.append((path, asked))
        if path in server.status or content is None:
            code, place = server.status.get(path, (404, ""))
            self.send_response(code)
            if place:
                self.send_header("Location", place)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        digest = hashlib.sha256(content).hexdigest()
        start = 0
        if asked and server.ranges and self.headers.get("If-Range", f'"{digest}"') == f'"{digest}"':
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header(
            "Content-Type", "application/json" if "/api/" in path else "application/octet-stream"
        )
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body:
            rest = content[start : start + server.cut.pop(0)] if server.cut else content[start:]
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            time.sleep(server.pause)
            self.wfile.write(rest[len(rest) // 2 :])

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
