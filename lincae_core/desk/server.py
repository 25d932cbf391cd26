"""The web server of a desk: the page, a WebSocket for sound and control, and downloads of the mix.

Everything lies below a random token. Each page has a transport and a decoder of its own; the settings are shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import secrets
import shutil
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from anyio import create_task_group, to_thread
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from lincae_core.models.codec import Autoencoder
from lincae_formats import LincaeError

from . import state
from .engine import AHEAD, Chunk, Player, flat_table, overview, write
from .state import Desk

PAGE = Path(__file__).parent / "page"
FILES = {
    "": ("index.html", "text/html"),
    "desk.css": ("desk.css", "text/css"),
    "desk.js": ("desk.js", "text/javascript"),
    "worklet.js": ("worklet.js", "text/javascript"),
}
EXPORTS = {"wav": "audio/wav", "flac": "audio/flac", "lat": "application/octet-stream"}
MAX_MESSAGE = 4096  # bytes
MAX_BAD = 20  # refused messages after which a page is cut off
MAX_PAGES = 8
LEAD = 0.7  # s of sound that a page holds
MARGIN = 0.04  # s beside the time to decode that a move needs before it is heard
FIRST_FRAMES, MOST_FRAMES = 2, 4  # decoded at once: after a move, and later
HEADER = struct.Struct("<IIQQIIII")  # generation, move, stream, song, channels, samples, members, frames
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses requests by other host names (DNS rebinding), and sockets that a page of another origin opens.

    Args:
        app: The application.
        hosts: Names by which it may be asked for; addresses are always allowed, for they cannot be rebound.
        port: The port it listens at; None for any, in tests.
    """

    def __init__(self, app: ASGIApp, hosts: set[str], port: int | None) -> None:
        self._app, self._hosts, self._port = app, hosts, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what is allowed."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        same = origin == f"http://{host}" or (origin is None and scope["type"] == "http")
        if self._known(host) and same:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse("wrong host or origin", 403)(scope, receive, send)
        else:
            await WebSocket(scope, receive, send).close(1008)

    def _known(self, host: str) -> bool:
        name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        name = name if colon else host
        if self._port is not None and port != str(self._port):
            return False
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return name.lower() in self._hosts
        return True


class Server:
    """A desk for any number of pages.

    Args:
        desk: The settings.
        model: Decodes.
        read_only: Whether pages may only listen.
        open_files: How many files each page may hold open.
        token: The part of the address that only the user knows; a random one by default.
    """

    def __init__(
        self, desk: Desk, model: Autoencoder, *, read_only: bool = False, open_files: int = 100,
        token: str | None = None,
    ) -> None:  # fmt: skip
        self.desk, self.model, self.read_only = desk, model, read_only
        self.token = token or secrets.token_urlsafe(18)
        self.pages: set[Page] = set()
        self.levels: dict[str, list[int]] = {}  # of the tracks over the song, dB
        self._open_files = open_files
        self._exporting = asyncio.Lock()
        self._stopped = threading.Event()

    def app(self, hosts: set[str] = frozenset(), port: int | None = None) -> ASGIApp:  # type: ignore[assignment]
        """The ASGI application; arguments as of `Guard`."""
        routes = [
            Route("/{token}/export/{kind}", self._export),
            WebSocketRoute("/{token}/socket", self._socket),
            Route("/{token}/{name:path}", self._file),
        ]
        return Guard(Starlette(routes=routes, lifespan=self._lifespan), {"localhost", *hosts}, port)

    def player(self) -> Player:
        """A player with files of its own."""
        desk = self.desk
        return Player(self.model, desk.now, desk.folder, desk.allow_outside, self._open_files)

    def tell(self, what: dict[str, Any]) -> None:
        """Sends a message to all pages."""
        for page in self.pages:
            page.tell(what)

    def changed(self) -> None:
        """Sends the settings to all pages."""
        self.tell({"type": "settings", **self.desk.describe()})

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        measuring = threading.Thread(target=self._measure, args=(loop,), daemon=True)
        measuring.start()
        yield
        self._stopped.set()

    def _measure(self, loop: asyncio.AbstractEventLoop) -> None:
        """Measures the tracks for the time line, in the background."""
        desk = self.desk

        def pause(took: float) -> None:
            time.sleep(3 * took if any(page.playing for page in self.pages.copy()) else 0)

        with contextlib.suppress(LincaeError, RuntimeError):  # the loop may end before
            flat = flat_table(self.model)
            for name, found in overview(desk.loaded, desk.folder, desk.allow_outside, flat, pause):
                if self._stopped.is_set():
                    return
                self.levels[name] = [round(x) for x in found.tolist()]
                loop.call_soon_threadsafe(self.tell, {"type": "levels", "levels": {name: self.levels[name]}})

    def _admitted(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())

    async def _file(self, request: Request) -> Response:
        found = FILES.get(request.path_params["name"])
        if found is None or not self._admitted(request.path_params["token"]):
            return PlainTextResponse("not found", 404, SECURITY)
        return FileResponse(PAGE / found[0], media_type=f"{found[1]}; charset=utf-8", headers=SECURITY)

    async def _export(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in EXPORTS or not self._admitted(request.path_params["token"]):
            return PlainTextResponse("not found", 404, SECURITY)
        if self._exporting.locked():
            return self._not_exported("another export is running; try again when it is done")
        desk = self.desk
        name = f"{desk.song.name or desk.target.stem}.{kind}"
        async with self._exporting:
            scratch = Path(tempfile.mkdtemp(prefix="lincae-desk-"))
            try:
                target = scratch / f"export.{kind}"
                args = (desk.now, desk.folder, desk.allow_outside, self.model, target, scratch)
                await to_thread.run_sync(write, *args)
            except LincaeError as e:
                shutil.rmtree(scratch, ignore_errors=True)
                return self._not_exported(str(e))
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
        self.tell({"type": "note", "text": f"rendered {name}"})
        done = BackgroundTask(shutil.rmtree, scratch, ignore_errors=True)
        return FileResponse(target, media_type=EXPORTS[kind], filename=name, headers=SECURITY, background=done)

    def _not_exported(self, why: str) -> Response:
        """A browser does not show the answer to a download, so that pages are told, too."""
        self.tell({"type": "error", "text": f"nothing was exported: {why}"})
        return PlainTextResponse(why, 409, SECURITY)

    async def _socket(self, socket: WebSocket) -> None:
        if not self._admitted(socket.path_params["token"]):
            await socket.close(1008)
            return
        await socket.accept()
        if len(self.pages) >= MAX_PAGES:
            await _refuse(socket, 1013, f"{MAX_PAGES} pages are open already; close one")
            return
        page = Page(self, socket)
        self.pages.add(page)
        try:
            await page.run()
        finally:
            self.pages.discard(page)


async def _refuse(socket: WebSocket, code: int, why: str) -> None:
    """Tells a page why it is not served, and closes its socket."""
    with contextlib.suppress(WebSocketDisconnect):
        await socket.send_text(json.dumps({"type": "error", "text": why, "final": True}))
        await socket.close(code)


class Page:
    """A page: its transport, its decoder, and what is said to it.

    Args:
        server: The server.
        socket: Its WebSocket.

    Attributes:
        playing: Whether it plays.
    """

    def __init__(self, server: Server, socket: WebSocket) -> None:
        self._server, self._socket, self._desk = server, socket, server.desk
        self._words: asyncio.Queue[dict[str, Any] | bytes] = asyncio.Queue(256)
        self._wake = asyncio.Event()
        self._moves: deque[state.Move | state.Record] = deque(maxlen=256)
        self._start: int | None = None  # sample of the song from which to play anew
        self._welcomed = self.playing = self._recording = False
        self._generation = self._move = self._heard = 0
        self._heard_at = time.monotonic()
        self._cost = 0.06  # s that the first sound after a move takes
        self._spent = self._made = 0.0  # s of work and of sound, lately
        self._player: Player

    def tell(self, what: dict[str, Any] | bytes) -> None:
        """Sends a message, once the page was welcomed; one that does not read is cut off."""
        if not self._welcomed:
            return
        try:
            self._words.put_nowait(what)
        except asyncio.QueueFull:
            self._wake.set()
            self.playing = False

    async def run(self) -> None:
        """Serves the page until it goes away."""
        self._revision = self._desk.revision
        try:
            self._player = await to_thread.run_sync(self._server.player)
        except LincaeError as e:
            await _refuse(self._socket, 1011, str(e))
            return
        try:
            self._welcomed = True
            self.tell(self._welcome())
            async with create_task_group() as group:

                async def until_closed(work: Callable[[], Awaitable[None]]) -> None:
                    with contextlib.suppress(WebSocketDisconnect):
                        await work()
                    group.cancel_scope.cancel()

                for work in (self._listen, self._speak, self._sound):
                    group.start_soon(until_closed, work)
        finally:
            self._punch_out()
            self._player.close()

    def _welcome(self) -> dict[str, Any]:
        player, desk, header = self._player, self._desk, self._player.header
        return {
            "type": "welcome", "name": desk.song.name or Path(desk.loaded.name).stem, "file": desk.target.name,
            "seconds": player.total / self._server.model.sample_rate, "rate": self._server.model.sample_rate,
            "frame": header.samples_per_frame, "channels": header.channels, "readOnly": self._server.read_only,
            "least": state.LEAST_DB, "most": state.MOST_DB, "levels": self._server.levels, **desk.describe(),
        }  # fmt: skip

    # --- what the page says

    async def _listen(self) -> None:
        bad = 0
        while True:
            found = await self._socket.receive()
            if found["type"] == "websocket.disconnect":
                return
            text = found.get("text")
            if text is None or len(text) > MAX_MESSAGE:
                await self._socket.close(1009)
                return
            try:
                self._obey(state.MESSAGES.validate_json(text))
            except (ValidationError, LincaeError) as e:
                bad += 1
                what = e.message if isinstance(e, LincaeError) else "a message that this desk does not know"
                self.tell({"type": "error", "text": what})
                if bad >= MAX_BAD:
                    await self._socket.close(1008)
                    return

    def _obey(self, said: Any) -> None:
        rate = self._server.model.sample_rate
        if self._server.read_only and isinstance(said, (state.Move, state.Record, state.Plain)):
            raise LincaeError("this desk is for listening only")
        if isinstance(said, state.Play):
            self._punch_out()
            self._generation, self._heard, self._heard_at = said.generation, 0, time.monotonic()
            self._start = round(said.at * rate)
            self.playing = True
        elif isinstance(said, state.Pause):
            self._punch_out()
            self.playing = False
        elif isinstance(said, state.Heard):
            if said.generation == self._generation:
                self._heard, self._heard_at = max(self._heard, said.samples), time.monotonic()
        elif isinstance(said, state.Loop):
            self._loop(said)
        elif isinstance(said, state.Move):
            self._desk.member(said.name)
            self._wait(said)
        elif isinstance(said, state.Record):
            self._wait(said)
        elif said.do == "save":
            self._desk.save()
            self._server.changed()
            self.tell({"type": "note", "text": f"saved {self._desk.target.name}"})
        elif self._desk.undo(said.do == "redo"):
            self._server.changed()
        for page in self._server.pages:  # another page's sound may change, too
            page._wake.set()

    def _wait(self, said: state.Move | state.Record) -> None:
        """Keeps a move until sound is made; carries it out at once where none is."""
        self._moves.append(said)
        if not self.playing:
            self._apply(0)

    def _loop(self, said: state.Loop) -> None:
        rate, total = self._server.model.sample_rate, self._player.total
        if said.span is None:
            self._player.loop = None
            return
        first, last = (min(round(t * rate), total) for t in said.span)
        if last - first < rate // 10:
            raise LincaeError("a loop is at least 0.1 s long")
        self._player.loop = first, last

    def _apply(self, frame: int) -> set[str]:
        """Carries out what waits; where it is recorded, curves are written from `frame` on. The members they are of."""
        desk, header = self._desk, self._player.header
        written: set[str] = set()
        while self._moves:
            move = self._moves.popleft()
            if isinstance(move, state.Record):
                if self._recording and not move.on:
                    written |= desk.punch_out(header, frame)
                self._recording = move.on
                continue
            recording = self._recording and self.playing
            try:
                desk.move(move, header, frame if recording else None)
                written |= {move.name} if recording and move.key == "level" else set()
            except LincaeError as e:
                self.tell({"type": "error", "text": e.message})
            self._move = max(self._move, move.id)
        self._server.changed()
        return written

    def _punch_out(self) -> None:
        """Ends what this page records where it is heard."""
        if self._recording and self.playing:
            back = self._player.stream - min(self._estimate(0.0), self._player.stream)
            frame = max(0, -(-(self._player.at - back) // self._server.model.samples_per_frame))
            self._apply(frame)
            self._desk.punch_out(self._player.header, frame)
            self._server.changed()

    # --- what is said to the page

    async def _speak(self) -> None:
        while True:
            word = await self._words.get()
            if self._words.full():
                await self._socket.close(1013)
                return
            if self._socket.application_state is not WebSocketState.CONNECTED:
                continue  # it is being closed
            if isinstance(word, bytes):
                await self._socket.send_bytes(word)
            else:
                await self._socket.send_text(json.dumps(word))

    # --- sound

    def _estimate(self, ahead: float) -> int:
        """The sample of the stream that is played in so many seconds."""
        since = min(time.monotonic() - self._heard_at, 0.5) if self._heard else 0.0
        return self._heard + round((since + ahead) * self._server.model.sample_rate)

    async def _sound(self) -> None:
        rate, player, fresh = self._server.model.sample_rate, self._player, FIRST_FRAMES
        while True:
            self._wake.clear()
            if self.playing and self._start is not None:
                player.play(self._start)
                self._start, fresh = None, FIRST_FRAMES
            began = time.monotonic()
            moved = bool(self._moves) or self._desk.revision != self._revision
            if moved:
                frame = player.moment(self._estimate(self._cost + MARGIN)) if self.playing else 0
                frame += AHEAD if self._recording else 0
                written = self._apply(frame) if self._moves else set()
                self._revision, song = self._desk.revision, self._desk.song
                try:
                    await to_thread.run_sync(player.change, song, frame, written)
                except LincaeError as e:
                    self._give_up(e)
                fresh = FIRST_FRAMES
            if not self.playing or (player.stream - self._estimate(0.0)) / rate >= LEAD:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), 0.02 if self.playing else None)
                continue
            generation, move = self._generation, self._move
            try:
                chunk = await to_thread.run_sync(player.next, fresh)
            except LincaeError as e:
                self._give_up(e)
                continue
            if generation != self._generation or not self.playing:
                continue
            took = time.monotonic() - began
            if chunk is None:
                self.playing = False
                self.tell({"type": "end", "generation": generation, "samples": player.stream})
                continue
            if moved:
                self._cost += 0.3 * (min(took, 0.4) - self._cost)
            self._report(took, chunk.audio.shape[1] / rate, fresh)
            fresh = min(2 * fresh, MOST_FRAMES)
            self.tell(packed(chunk, generation, move))

    def _give_up(self, error: LincaeError) -> None:
        """Stops playing: a file is gone or damaged."""
        self._punch_out()
        self.playing = False
        self.tell({"type": "error", "text": str(error), "stop": True})

    def _report(self, took: float, made: float, frames: int) -> None:
        """Tells how many times faster than real time sound is made, lately."""
        if frames < MOST_FRAMES:
            return
        self._spent, self._made = 0.9 * self._spent + took, 0.9 * self._made + made
        self.tell({"type": "reserve", "times": round(self._made / max(self._spent, 1e-6), 2)})


def packed(chunk: Chunk, generation: int, move: int) -> bytes:
    """A chunk as the page reads it: `HEADER`, levels (float32, dB), sound (float32, channel by channel)."""
    (channels, samples), (members, frames) = chunk.audio.shape, chunk.meters.shape
    head = HEADER.pack(generation, move, chunk.stream, chunk.song, channels, samples, members, frames)
    return head + chunk.meters.astype("<f4").tobytes() + np.ascontiguousarray(chunk.audio, "<f4").tobytes()


def serve(server: Server, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serves until it is interrupted.

    Args:
        server: The server.
        host: Address or name to listen at.
        port: Port; 0 for any that is free.
        ready: Called with the address of the page once it can be opened.

    Raises:
        LincaeError: the address cannot be listened at.
    """
    import socket

    import uvicorn

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except OSError as e:
        why, hint = os.strerror(e.errno) if e.errno and e.errno > 0 else str(e), "choose another --port or --host"
        raise LincaeError(f"cannot listen at {host}:{port} ({why})", hint) from None
    with listening:
        found = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        app = server.app({host.lower()}, found)
        config = uvicorn.Config(
            app, log_level="warning", ws="websockets-sansio", ws_max_size=MAX_MESSAGE, ws_per_message_deflate=False,
            timeout_graceful_shutdown=2, server_header=False, access_log=False,
        )  # fmt: skip
        ready(f"http://{shown}:{found}/{server.token}/")
        uvicorn.Server(config).run(sockets=[listening])
