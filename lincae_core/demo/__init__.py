"""Ten seconds of CC0 stems encoded, worked on as latents, decoded and scored; a page with players."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import soundfile as sf

from lincae_core.audio import AudioWriter
from lincae_core.compare import compare
from lincae_core.evaluation.judges import Judges
from lincae_core.evaluation.references import LOWEST, Opus
from lincae_core.evaluation.report import playable, write_page
from lincae_core.models import store
from lincae_core.models.codec import AudioArray, Autoencoder, Report, decode_file, encode_file
from lincae_core.plot import spectrogram_sheet
from lincae_formats import Latents, gain, mix, read_lat, subtract, write_lat
from lincae_formats.errors import LincaeError

STEMS = Path(__file__).parent / "stems"
NAMES = ("bass", "drums", "other", "vocals")
GAIN_DB = -12.0
FACTOR = 10 ** (GAIN_DB / 20)
QUIETER = f"mixture at {GAIN_DB:g} dB"
PAGE, PICTURE = "index.html", "spectrograms.png"
SCORES = {  # what the page and the table show, and by whose judgement
    "Zimtohrli": "mean opinion score, 1 to 5, of a model of hearing (Zimtohrli); higher is better",
    "SDR": "signal-to-distortion ratio of the waveform, dB; higher is better",
    "octaves": "mean error of the level of octaves from 500 Hz to 16 kHz, dB; lower is better",
    "tone": "buzz at the decoder's frame rate; 1 is none",
    "MSS": "multi-scale spectral distance, the measure of the Lin-CAE paper; 0 is equal",
}
_STEM = "Its pitch and its attacks are coded; what lies above is rebuilt from levels."
PLAN = (  # name, title, formula, what to listen for, and original of every result
    ("mixture", "the mixture, encoded and decoded", "D(E(mix))",
     "Notes, words and the punch of the drums should be those of the original. Cymbals and breath are rebuilt from "
     "levels and sound a little rougher.", "mixture"),
    ("sum", "the four stems, added as latents", "D(E(bass) + E(drums) + E(other) + E(vocals))",
     "It should sound like the player above: mixing is addition.", "mixture"),
    ("vocals", "the vocals, encoded and decoded", "D(E(vocals))",
     "Can you understand the words? Listen to the consonants.", "vocals"),
    ("vocals_by_subtraction", "the vocals, by subtraction", "D(E(mix) - E(bass + drums + other))",
     "The voice alone. What is left of the band is the rounding of both files; a finer quality leaves less.",
     "vocals"),
    ("karaoke", "the mixture without its vocals", "D(E(mix) - E(vocals))",
     "The band alone; listen for what is left of the voice.", "accompaniment"),
    ("quiet", f"the mixture {-GAIN_DB:g} dB quieter", f"D({FACTOR:.2f} E(mix))",
     "The mixture, quieter, and nothing else: volume is multiplication.", QUIETER),
    ("bass", "the bass, encoded and decoded", "D(E(bass))", _STEM, "bass"),
    ("drums", "the drums, encoded and decoded", "D(E(drums))", _STEM, "drums"),
    ("other", "the other, encoded and decoded", "D(E(other))", _STEM, "other"),
)  # fmt: skip
AT_QUALITY = (
    ("mixture", "the mixture", "D(E(mix))", "", "mixture"),
    ("vocals_by_subtraction", "the vocals by subtraction", "D(E(mix) - E(rest))", "", "vocals"),
)


@dataclass(frozen=True)
class Result:
    """Something to listen to beside its original."""

    name: str  # of its files
    title: str  # what was done
    formula: str  # the same as arithmetic on latents
    listen: str  # what to listen for
    original: str  # name of the audio it should equal
    quality: str  # of the `.lat` file; empty for the model's default
    file: str  # name of the decoded audio, without its extension
    kbps: float  # size of the `.lat` file, header included, kbit/s
    operation_seconds: float | None  # time of the arithmetic, files read and written; None where there is none
    decode_speed: float  # times real time
    scores: dict[str, float]  # against the original, by the keys of SCORES; Zimtohrli where it is installed
    opus: tuple[float, dict[str, float]] | None  # kbit/s and scores of an Opus file of the same size


@dataclass(frozen=True)
class Summary:
    """The results, and what was measured beside them."""

    rows: list[Result]  # at the default quality
    qualities: list[Result]  # the mixture, and the vocals by subtraction, at every quality that the model has
    encode_speed: float  # of all sources, times real time
    folder: Path  # where everything lies
    seconds: float  # length of the audio
    model: str  # name and version

    @property
    def scores(self) -> list[str]:
        """The scores that every row has."""
        return list(self.rows[0].scores)


def run_demo(out: Path, *, model: str | None = None, tell: Callable[[str], None] = lambda _: None) -> Summary:
    """Encodes the bundled mixture and stems, works on the latents, decodes, compares.

    Args:
        out: folder for audio, `.lat` files, `spectrograms.png` and `index.html`.
        model: name or weights file; the default model without.
        tell: called with a few words before each step.

    Raises:
        LincaeError: the folder cannot be written, or there is no such model.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise LincaeError(f"{out}: cannot make the folder ({e.strerror})", "choose another -o") from None

    tell("reads the stems")
    stems = {}
    for name in NAMES:
        audio, rate = sf.read(STEMS / f"{name}.flac", dtype="float32", always_2d=True)
        stems[name] = audio.T
    mixture = np.sum(list(stems.values()), axis=0, dtype=np.float32)
    sources = {"mixture": mixture, **stems, "accompaniment": mixture - stems["vocals"]}
    for name, audio in sources.items():
        _write_wav(out / f"{name}_original.wav", audio, rate)

    tell("loads the model")
    originals = {**sources, QUIETER: np.float32(FACTOR) * mixture}
    work = _Work(out, store.load(model or store.DEFAULT_MODEL), rate, originals, _judges())
    tell("encodes the mixture, the stems and the accompaniment")
    reports = [work.encode(name) for name in sources]
    tell("adds, subtracts and scales latents")
    work.operate("sum", NAMES, mix)
    work.operate("vocals_by_subtraction", ["mixture", "accompaniment"], _difference)
    work.operate("karaoke", ["mixture", "vocals"], _difference)
    work.operate("quiet", ["mixture"], lambda parts: gain(parts[0], FACTOR))

    tell("decodes and compares")
    rows = [work.result(*row) for row in PLAN]
    qualities = []
    for quality in store.QUALITIES if work.model.groups("low") else ():
        tell(f"the same at quality {quality}")
        work.encode("mixture", quality)
        work.encode("accompaniment", quality)
        work.operate("vocals_by_subtraction", ["mixture", "accompaniment"], _difference, quality)
        qualities += [work.result(*row, quality) for row in AT_QUALITY]
    tell("writes the page")
    pairs = [[(f"original: {r.original}", originals[r.original]), (r.title, work.audio(r.file))] for r in rows]
    means = [[(caption, audio.mean(0)) for caption, audio in pair] for pair in pairs]
    spectrogram_sheet(means, rate, out / PICTURE, "lincae demo: original (left) and result (right)")
    speed = sum(r.seconds for r in reports) / max(sum(r.elapsed for r in reports), 1e-9)
    summary = Summary(rows, qualities, speed, out, work.seconds, f"{work.model.name} {work.model.version}")
    write_page(
        "demo.html.j2", out / PAGE, title="lincae demo", summary=summary, sound=cache(work.playable),
        scores={name: SCORES[name] for name in summary.scores}, judged="Zimtohrli" in summary.scores,
    )  # fmt: skip
    return summary


@dataclass
class _Work:
    """What the steps share."""

    folder: Path
    model: Autoencoder
    rate: int
    originals: dict[str, np.ndarray]  # [C, n]
    judges: Judges | None
    operations: dict[str, float] = field(default_factory=dict)  # s, by the result's name

    @property
    def seconds(self) -> float:
        return self.originals["mixture"].shape[1] / self.rate

    def lat(self, name: str, quality: str = "") -> Path:
        return self.folder / f"{name}{'_' if quality else ''}{quality}.lat"

    def encode(self, name: str, quality: str = "") -> Report:
        wav = self.folder / f"{name}_original.wav"
        return encode_file(self.model, wav, self.lat(name, quality), quality=quality or None, overwrite=True)

    def operate(
        self, name: str, operands: Sequence[str], operation: Callable[[list[Latents]], Latents], quality: str = ""
    ) -> None:
        """Reads latents, works on them, writes the result; notes the time it took."""
        began, lat = time.perf_counter(), self.lat(name, quality)
        write_lat(operation([read_lat(self.lat(operand, quality)) for operand in operands]), lat, overwrite=True)
        self.operations[lat.stem] = time.perf_counter() - began

    def result(self, name: str, title: str, formula: str, listen: str, original: str, quality: str = "") -> Result:
        """Decodes a `.lat` file and scores it; beside what was only encoded, an Opus file of the same size."""
        lat = self.lat(name, quality)
        file = f"{lat.stem}_decoded"
        report = decode_file(self.model, lat, self.folder / f"{file}.wav", overwrite=True)
        kbps = 8 * lat.stat().st_size / 1000 / self.seconds
        return Result(
            name, title, formula, listen, original, quality, file, kbps, self.operations.get(lat.stem),
            report.seconds / max(report.elapsed, 1e-9), self.scores(file, original),
            self.opus(name, kbps) if name == original and not quality else None,
        )  # fmt: skip

    def opus(self, name: str, kbps: float) -> tuple[float, dict[str, float]] | None:
        """Writes an original as an Opus file of that size, and what it holds; None where there is no encoder."""
        audio = self.originals[name]
        try:
            system = Opus(max(kbps / len(audio), LOWEST / 1000))
        except LincaeError:
            return None
        file = system.encode(audio)
        (self.folder / f"{name}.opus").write_bytes(file)
        _write_wav(self.folder / f"{name}_opus.wav", system.decoded(file, audio.shape[1]), self.rate)
        return 8 * len(file) / 1000 / self.seconds, self.scores(f"{name}_opus", name)

    def scores(self, file: str, original: str) -> dict[str, float]:
        x, y = self.originals[original], self.audio(file)
        found = compare(AudioArray(x, self.rate), AudioArray(y, self.rate))
        zimtohrli = {} if self.judges is None else {"Zimtohrli": self.judges.zimtohrli(y.mean(0), x.mean(0), self.rate)}
        sound = {"octaves": found.sound["octaves_db"], "tone": found.sound["tone"], "MSS": found.sound["mss"]}
        return {**zimtohrli, "SDR": found.sdr_db, **sound}

    def audio(self, file: str) -> np.ndarray:
        """What was decoded, or an original, ``[C, n]``."""
        original = file.removesuffix("_original")
        if original in self.originals:
            return self.originals[original]
        samples: np.ndarray = sf.read(self.folder / f"{file}.wav", dtype="float32", always_2d=True)[0]
        return samples.T

    def playable(self, file: str) -> dict[str, str]:
        """The same for a page, as MP3 at its best quality, which every browser plays."""
        buffer = io.BytesIO()
        sf.write(buffer, np.clip(self.audio(file).T, -1, 1), self.rate, format="MP3", compression_level=0.0)
        return playable(buffer.getvalue(), "mpeg")


def _difference(parts: list[Latents]) -> Latents:
    return subtract(parts[0], parts[1:])


def _judges() -> Judges | None:
    try:
        return Judges()
    except LincaeError:
        return None  # not installed: the page says how to install them


def _write_wav(path: Path, audio: np.ndarray, rate: int) -> None:
    with AudioWriter(path, rate, len(audio), subtype="PCM_16", overwrite=True) as writer:
        writer.write(audio.astype(np.float32))
