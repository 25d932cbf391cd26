"""A small stand-in of the Hugging Face hub: one process, one port, files from memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class StandIn:
    """What the server has and what it was asked.

    Args:
        files: content by `owner/repo/path`.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, range
        self.break_after: int | None = None  # bytes of a body after which the connection breaks, once
        self.flip: str | None = None  # path whose bytes are damaged on the way
        self.refuse: dict[str, tuple[int, str]] = {}  # status and error code by path
        self.endpoint = ""
        self.commit = COMMIT

    def ranges(self) -> list[str | None]:
        """The ranges that were asked for, in order."""
        return [r for method, _, r in self.requests if method == "GET"]


@contextmanager
def running(stand_in: StandIn) -> Iterator[StandIn]:
    """Serves on a free local port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            wanted = self.headers.get("Range")
            stand_in.requests.append((self.command, self.path, wanted))
            path = self.path.lstrip("/").replace(f"/resolve/{stand_in.commit}/", "/").replace("/resolve/main/", "/")
            if path in stand_in.refuse or path not in stand_in.files:
                status, code = stand_in.refuse.get(path, (404, "EntryNotFound"))
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Repo-Commit", stand_in.commit)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = stand_in.files[path]
            etag = hashlib.sha256(content).hexdigest()
            if path.endswith((".yaml", ".json")):  # small files are plain git blobs
                etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
            if stand_in.flip == path:
                content = content[:-1] + bytes([content[-1] ^ 1])
            self.send_response(206 if wanted else 200)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", stand_in.commit)
            self.send_header("Accept-Ranges", "bytes")
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if not body:
                return
            rest = content[start:]
            if stand_in.break_after is not None and len(rest) > stand_in.break_after:
                self.wfile.write(rest[: stand_in.break_after])
                stand_in.break_after = None
                self.wfile.flush()
                self.connection.shutdown(2)
                return
            self.wfile.write(rest)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stand_in.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
