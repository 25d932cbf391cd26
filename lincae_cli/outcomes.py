"""What became of each file: notes on a terminal, one JSON line a file with `--log json`, else only what went wrong."""

import json
import sys
import threading
from typing import Any

from . import errors
from .parsing import format_time
from .paths import Job
from .progress import Progress


class Outcomes:
    """Tells of every file as it ends.

    Args:
        progress: Where notes go.
        as_json: Whether every file gets a JSON line on stderr, and nothing else is written there.
    """

    def __init__(self, progress: Progress, as_json: bool) -> None:
        """Tells nothing yet."""
        self._progress = progress
        self._json = as_json
        self._lock = threading.Lock()
        self._skipped = 0

    def done(self, job: Job, report: Any) -> None:
        """A file was written."""
        self._progress.end(job.source, True, report.seconds)
        speed = report.seconds / max(report.elapsed, 1e-9)
        took = f"{format_time(round(report.seconds, 3))} of audio in {report.elapsed:.1f} s, {speed:.0f}x real time"
        self._progress.note(f"{job.source} -> {job.target}  {took}")
        facts = {"seconds": report.seconds, "elapsed": round(report.elapsed, 4), "speed": round(speed, 2)}
        facts |= {"channels": report.channels, "sample_rate": report.sample_rate, "clipped": report.clipped}
        self._log(job, "done", **facts)
        if report.clipped and not self._json:
            hint = "turn it down with: lincae gain, or add --subtype FLOAT"
            errors.say("warning", f"{job.target}: {report.clipped} samples were clipped; {hint}")

    def skipped(self, job: Job, seconds: float) -> None:
        """A file was there already, whole."""
        self._progress.end(job.source, False)
        with self._lock:
            self._skipped += 1
        self._log(job, "skipped", seconds=seconds)

    def failed(self, job: Job, error: Exception) -> bool:
        """A file could not be written; returns whether that was told."""
        self._progress.end(job.source, False)
        self._log(job, "failed", error=str(error) or type(error).__name__)
        return self._json

    def summary(self, files: int) -> None:
        """Says how many files were there already."""
        if self._skipped and not self._json:
            errors.say("note", f"{self._skipped} of {files} files were finished already; --force makes them anew")

    def _log(self, job: Job, status: str, **facts: Any) -> None:
        if self._json:
            line = json.dumps({"file": job.source, "output": job.target, "status": status, **facts})
            with self._lock:
                print(line, file=sys.stderr, flush=True)
