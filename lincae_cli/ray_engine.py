"""`--engine ray`: actors of a Ray cluster work on the files of a batch; results come in the order of the files.

Paths travel, not audio, so every node must see the files under the same paths, or they are URLs. An actor loads a model
once. This module is imported only where Ray is asked for, and Ray with it.
"""

import contextlib
import logging
import os
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from .messages import failure, say, usage_error
from .workers import Work, cores, picklable

Item = TypeVar("Item")

_CONNECT, _ANSWER = 3.0, 10.0  # s until an address counts as one that nobody answers
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # gRPC, so HTTP/2
_SETTINGS = 4  # the kind of frame that the other side begins with, in its fourth byte
_DEATHS = 2  # of workers, after which a file is reported
_WAIT = 10.0  # s without a worker until the user is told


def in_actors(
    items: Sequence[Item], work: Work, *, address: str | None, workers: int | None, gpu_jobs: int, together: int,
    lost: Callable[[list[Item]], None], quiet: bool,
) -> Iterator[Any]:  # fmt: skip
    """Does several items at once in actors: one for each GPU of the cluster if `gpu_jobs`, else one for each CPU.

    When an actor dies, with its node or alone, its items are tried again on another, each alone. The one whose actor
    dies a second time is reported by an error that names it, and the rest goes on.

    Args:
        items: What to work on; pickled.
        work: Called with each; pickled. Returns what can be pickled, exceptions included.
        address: HOST:PORT of the cluster, or auto; else RAY_ADDRESS; else a cluster is started on this machine.
        workers: The most actors; None for as many as the cluster has room for.
        gpu_jobs: Items at once in an actor that has a GPU; 0 where GPUs are of no use.
        together: Items handed over at once.
        lost: Called with the items that a dead actor had, before they are tried again, and when all has ended.
        quiet: Whether to say nothing.

    Raises:
        LincaeError: nobody answers at the address, or its nodes cannot run lincae.
    """
    crew = None
    try:
        with _connected(address or os.environ.get("RAY_ADDRESS") or None, workers) as where:
            crew = _Crew(items, work, where, workers, gpu_jobs, together, lost)
            try:
                if not quiet and where is not None:
                    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
                    say("note", f"ray: {_count(crew.size, 'worker')} on {_count(nodes, 'node')} at {where}")
                yield from crew.results(quiet)
            finally:
                crew.end()
    finally:
        if crew is not None and crew.gone:
            for pause in (0.0, 0.5, 1.5):  # workers outlive their node, or the order to end, for a moment
                time.sleep(pause)
                lost([items[i] for i in crew.gone])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@contextlib.contextmanager
def _connected(address: str | None, cpus: int | None) -> Iterator[str | None]:
    """A connection to a cluster; yields its address, or None for one that was started here and ends with it."""
    where = None if address in (None, "local") else address
    if where is not None and where != "auto":
        _check(where)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of itself
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # that of this process, not 15
    own: dict[str, Any] = {}
    name = "that was started here" if where is None else f"at {where}"
    if where is None:
        own = {"num_cpus": cpus or cores(), "include_dashboard": False, "object_store_memory": 80 << 20}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(where or "local", log_to_driver=False, logging_level=logging.CRITICAL, **own)
    except Exception as e:  # Ray raises all kinds, Exception itself when a node starts too slowly
        ray.shutdown()
        reason = next((line.strip() for line in str(e).splitlines() if line.strip()), type(e).__name__)
        hint = "see: ray status" if where else "run it again, or start one: ray start --head; and add --address auto"
        raise failure(f"cannot use the ray cluster {name}: {reason.rstrip('.')}", hint) from e
    finally:
        for number, handler in handlers.items():
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(number, handler)
    try:
        yield where
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Refuses an address that cannot be, or that nobody answers: Ray itself would take a minute to say so."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise usage_error(f"--address {address!r} is not HOST:PORT", "for example: --address 10.0.0.1:6379, or auto")
    hint = f"start a cluster: ray start --head --port {port}; or leave --address out to use this machine"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                connection.settimeout(_ANSWER)
                connection.sendall(_HELLO)
                if len(answer := connection.recv(9)) < 4 or answer[3] != _SETTINGS:
                    raise failure(f"what answers at {address} is not a ray cluster", hint)
    except OSError as e:
        raise failure(f"no ray cluster answers at {address} ({e.strerror or 'no answer'})", hint) from e


class Worker:
    """What runs on the cluster."""

    def __init__(self, work: Work, folder: str) -> None:
        """Goes to the folder in which the command runs, so that relative names mean the same."""
        try:
            os.chdir(folder)
        except OSError as e:
            raise failure(
                f"{socket.gethostname()} has no folder {folder}", "run lincae in a folder all nodes share"
            ) from e
        self._work = work

    def ready(self) -> None:
        """Returns when the actor has started."""

    def do(self, items: list[Any]) -> list[Any]:
        """The results of some items."""
        from lincae_formats.files import synced_once

        with synced_once() if len(items) > 1 else contextlib.nullcontext():
            return [picklable(self._work(item)) for item in items]


class _Member:
    """An actor and what it is working on."""

    def __init__(self, actor: Any) -> None:
        self.actor, self.started, self.alone = actor, False, False
        self.ready = actor.ready.remote()
        self.running: dict[Any, list[int]] = {}


class _Crew:
    """The actors of a batch."""

    def __init__(
        self, items: Sequence[Any], work: Work, where: str | None, workers: int | None, gpu_jobs: int, together: int,
        lost: Callable[[list[Any]], None],
    ) -> None:  # fmt: skip
        self._items, self._lost = items, lost
        self._waiting = deque([*range(i, min(i + together, len(items)))] for i in range(0, len(items), together))
        self._again: deque[list[int]] = deque()  # each alone, as one of them may end its worker
        self._done: dict[int, Any] = {}
        self._deaths: Counter[int] = Counter()
        self._failed_starts = 0
        self.gone: set[int] = set()
        total = ray.cluster_resources()
        gpus, cpus = int(total.get("GPU", 0)) if gpu_jobs else 0, int(total.get("CPU", 0))
        if not cpus:
            raise failure(f"the ray cluster at {where} has no CPUs", f"add a node: ray start --address {where}")
        self._slots = gpu_jobs if gpus else 1
        self.size = min(gpus or cpus, workers or cpus, -(-len(self._waiting) // self._slots))
        self._work = ray.put(work)
        self._remote = ray.remote(Worker).options(
            num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=0, max_concurrency=self._slots,
            scheduling_strategy="SPREAD",
        )  # fmt: skip
        self._crew: list[_Member] = [self._hire() for _ in range(self.size)]

    def results(self, quiet: bool) -> Iterator[Any]:
        """The results in the order of the items."""
        told = quiet
        for following in range(len(self._items)):
            while following not in self._done:
                self._hand_out()
                refs = {ref: member for member in self._crew for ref in member.running}
                refs |= {member.ready: member for member in self._crew if not member.started}
                ended, _ = ray.wait([*refs], num_returns=1, timeout=_WAIT)
                for ref in ended:
                    self._take(refs[ref], ref)
                if not ended and not told and not any(member.started for member in self._crew):
                    told = True
                    say("note", "ray: waiting for a free worker; see: ray status")
            yield self._done.pop(following)

    def end(self) -> None:
        """Ends the actors, and removes what they were about to write."""
        running = [ref for member in self._crew for ref in member.running]
        self.gone.update(i for member in self._crew for group in member.running.values() for i in group)
        for member in self._crew:
            ray.kill(member.actor)
        if running:
            ray.wait(running, num_returns=len(running), timeout=5.0)

    def _hire(self) -> _Member:
        return _Member(self._remote.remote(self._work, os.getcwd()))

    def _hand_out(self) -> None:
        for member in self._crew:
            while member.started and not member.alone and len(member.running) < self._slots:
                if self._again and member.running:
                    break
                member.alone = bool(self._again)
                queue = self._again or self._waiting
                if not queue:
                    break
                group = queue.popleft()
                member.running[member.actor.do.remote([self._items[i] for i in group])] = group

    def _take(self, member: _Member, ref: Any) -> None:
        """Keeps what an actor has done, or replaces it if it died."""
        try:
            values = ray.get(ref)
        except RayTaskError as e:  # what is no Exception; the work returns the others
            values = [failure(f"unexpected {e.cause!r}", "add --debug and report what it prints")] * len(self._items)
        except RayError as e:
            self._bury(member, e)
            return
        if ref == member.ready:
            member.started, self._failed_starts = True, 0
            return
        self._done.update(zip(member.running.pop(ref), values, strict=False))
        member.alone = False

    def _bury(self, member: _Member, error: RayError) -> None:
        if member not in self._crew:
            return
        if not member.started:
            self._failed_starts += 1
            if self._failed_starts > self.size + 3 or "creation task" in str(error):
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                hint = "every node needs the same version: pip install 'lincae[scale]'"
                raise failure(f"ray cannot start a worker: {lines[-1] if lines else error}", hint)
        with contextlib.suppress(RayError):
            ray.kill(member.actor)
        dead: list[int] = []
        for ref, group in member.running.items():
            try:
                self._done.update(zip(group, ray.get(ref, timeout=5.0), strict=True))
            except RayError:
                dead += group
        self._lost([self._items[i] for i in dead])
        self.gone.update(dead)
        self._deaths.update(dead)
        for i in sorted(dead):
            if self._deaths[i] < _DEATHS:
                self._again.append([i])
                continue
            name = getattr(self._items[i], "source", self._items[i])
            what = f"{name}: {_DEATHS} workers died while they worked on it (killed, or out of memory)"
            self._done[i] = failure(what, "run the same command again")
        self._crew[self._crew.index(member)] = self._hire()
