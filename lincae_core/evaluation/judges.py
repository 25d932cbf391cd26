"""Perceptual judges from optional packages (`pip install 'lincae[judges]'`): ViSQOL, Zimtohrli, note F1, STOI.

No model of this project is trained on any of them. All compare mono audio with its original.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lincae_formats.errors import LincaeError

INSTALL = "pip install 'lincae[judges]' && pip install --no-deps basic-pitch"
PACKAGES = ("visqol", "zimtohrli", "pystoi", "onnxruntime", "mir_eval", "pretty_midi", "resampy", "basic_pitch")
FEWEST_NOTES = 5  # in the original, for the F1 of notes to say anything

Notes = tuple[np.ndarray, np.ndarray]  # [notes, 2] onset and offset in s, [notes] pitch in Hz


class Judges:
    """The judges, each loaded at its first use.

    Raises:
        LincaeError: a package is not installed.
    """

    def __init__(self) -> None:
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            raise LincaeError(f"--judges needs packages that are not installed ({', '.join(missing)})", INSTALL)
        self._visqol: Any = None
        self._basic_pitch: Any = None
        self._heard: tuple[bytes, Notes] = (b"", (np.zeros((0, 2)), np.zeros(0)))  # of the last original

    def scores(
        self, estimate: np.ndarray, target: np.ndarray, sample_rate: int, *, speech: bool = False
    ) -> dict[str, float]:
        """visqol, zimtohrli, notes and, for voices alone, stoi of a segment ``[n]`` at a rate in Hz.

        NaN where a judge has nothing to say of the segment.
        """
        judges = [self.visqol, self.zimtohrli, self.notes, *([self.stoi] if speech else [])]
        return {judge.__name__: judge(estimate, target, sample_rate) for judge in judges}

    def visqol(self, estimate: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
        """ViSQOL's MOS-LQO in audio mode, 1 to 5 (Chinen et al., 2020); NaN for segments too short for it."""
        with _quiet():
            if self._visqol is None:
                from visqol import VisqolApi

                self._visqol = VisqolApi()
                self._visqol.create(mode="audio")
            pair = [_resampled(x, sample_rate, 48000).astype(np.float64) for x in (target, estimate)]
            try:
                return float(self._visqol.measure_from_arrays(*pair, sample_rate=48000).moslqo)
            except ValueError:
                return math.nan

    def zimtohrli(self, estimate: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
        """Zimtohrli's mean opinion score, 1 to 5 (Alakuijala et al., 2025)."""
        import zimtohrli

        return float(zimtohrli.mos_from_signals(*(_resampled(x, sample_rate, 48000) for x in (target, estimate))))

    def stoi(self, estimate: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
        """Short-time objective intelligibility, 0 to 1 (Taal et al., 2011)."""
        from pystoi import stoi

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # too little speech: it warns and returns 1e-5
            value = float(stoi(*(_resampled(x, sample_rate, 16000) for x in (target, estimate)), 16000))
        return math.nan if value <= 1e-5 else value

    def notes(self, estimate: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
        """F1 of the notes (onset and pitch) that basic-pitch hears in the estimate against those in the target.

        Bittner et al., 2022, compared as by `mir_eval.transcription` without offsets. NaN where the target has fewer
        than 5 notes.
        """
        import mir_eval

        data = target.tobytes()
        if self._heard[0] != data:  # the same original is compared with every system
            self._heard = (data, self._notes_of(target, sample_rate))
        reference = self._heard[1]
        if len(reference[1]) < FEWEST_NOTES:
            return math.nan
        found = self._notes_of(estimate, sample_rate)
        if not len(found[1]):
            return 0.0
        return float(mir_eval.transcription.precision_recall_f1_overlap(*reference, *found, offset_ratio=None)[2])

    def _notes_of(self, audio: np.ndarray, sample_rate: int) -> Notes:
        import soundfile

        with _quiet(), tempfile.TemporaryDirectory() as folder:
            import basic_pitch
            from basic_pitch.inference import Model, predict

            if self._basic_pitch is None:
                weights = Path(basic_pitch.__file__).parent / "saved_models" / "icassp_2022" / "nmp.onnx"
                self._basic_pitch = Model(str(weights))
            path = Path(folder) / "audio.wav"
            soundfile.write(path, audio, sample_rate, subtype="FLOAT")
            events = predict(str(path), self._basic_pitch)[2]
        times = np.array([[e[0], max(e[1], e[0] + 0.01)] for e in events], np.float64).reshape(-1, 2)
        return times, np.array([440 * 2 ** ((e[2] - 69) / 12) for e in events], np.float64)


def _resampled(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    import soxr

    return np.asarray(soxr.resample(audio.astype(np.float32), source, target), np.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the packages print, log and warn of: backends they would also like to have."""
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for handler in set(root.handlers) - set(before):  # a call of logging.warning installs one
            root.removeHandler(handler)
