"""Ten seconds of CC0 stems encoded, worked on as latents, decoded and scored; a page with players."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from lincae_core.audio import AudioWriter
from lincae_core.evaluation import metrics
from lincae_core.evaluation.judges import Judges
from lincae_core.evaluation.references import LOWEST, Opus
from lincae_core.models import store
from lincae_core.models.codec import Autoencoder, Report, decode_file, encode_file
from lincae_core.pages import data_url, write_page
from lincae_core.plot import picture_of, spectrogram_sheet
from lincae_formats import Latents, gain, mix, read_lat, subtract, write_lat
from lincae_formats.errors import LincaeError

Operation = Callable[[list[Latents]], Latents]

STEMS = Path(__file__).parent / "stems"
NAMES = ("bass", "drums", "other", "vocals")
GAIN_DB = -12.0
PAGE, PICTURE = "index.html", "spectrograms.png"
SCORES = {  # what the page and the table show, and by whose judgement
    "Zimtohrli": "mean opinion score, 1 to 5, of a model of hearing (Zimtohrli); higher is better",
    "SDR": "signal-to-distortion ratio of the waveform, dB; higher is better",
    "octaves": "mean error of the level of octaves from 500 Hz to 16 kHz, dB; lower is better",
    "tone": "buzz at the decoder's frame rate; 1 is none",
    "MSS": "multi-scale spectral distance, the measure of the Lin-CAE paper; 0 is equal",
}


@dataclass(frozen=True)
class Result:
    """Something to listen to beside its original."""

    name: str  # of its files
    title: str  # what was done
    formula: str  # the same as arithmetic on latents
    listen: str  # what to listen for
    original: str  # name of the audio it should equal
    quality: str  # of the `.lat` file; empty for the model's default
    kbps: float  # size of the file, header included, kbit/s
    operation_seconds: float | None  # time of the arithmetic, files read and written; None where there is none
    decode_speed: float  # times real time
    scores: dict[str, float]  # against the original, by the keys of SCORES; Zimtohrli where it is installed
    opus: tuple[float, dict[str, float]] | None = None  # kbit/s and scores of an Opus file of the same size


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


@dataclass
class _Work:
    """What the steps share."""

    folder: Path
    model: Autoencoder
    rate: int
    originals: dict[str, np.ndarray]  # [C, n]
    judges: Judges | None = None
    operations: dict[str, float] = field(default_factory=dict)  # s, by the result's name

    @property
    def seconds(self) -> float:
        return self.originals["mixture"].shape[1] / self.rate

    def lat(self, name: str, quality: str = "") -> Path:
        return self.folder / f"{name}{'_' if quality else ''}{quality}.lat"

    def encode(self, name: str, quality: str = "") -> Report:
        wav = self.folder / f"{name}_original.wav"
        return encode_file(self.model, wav, self.lat(name, quality), quality=quality or None, overwrite=True)

    def operate(self, name: str, operands: Sequence[str], operation: Operation, quality: str = "") -> None:
        """Reads latents, works on them, writes the result; notes the time it took."""
        began, lat = time.perf_counter(), self.lat(name, quality)
        write_lat(operation([read_lat(self.lat(operand, quality)) for operand in operands]), lat, overwrite=True)
        self.operations[lat.stem] = time.perf_counter() - began


def run_demo(out: Path, *, model: str | None = None, tell: Callable[[str], None] | None = None) -> Summary:
    """Encodes the bundled mixture and stems, works on the latents, decodes, compares.

    Args:
        out: folder for audio, `.lat` files, `spectrograms.png` and `index.html`.
        model: name or weights file; the default model without.
        tell: called with a few words before each step.

    Raises:
        LincaeError: the folder cannot be written, or there is no such model.
    """
    say = tell or (lambda _: None)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise LincaeError(f"{out}: cannot make the folder ({e.strerror})", "choose another -o") from None

    say("reads the stems")
    stems = {}
    for name in NAMES:
        audio, rate = sf.read(STEMS / f"{name}.flac", dtype="float32", always_2d=True)
        stems[name] = audio.T
    mixture = np.sum(list(stems.values()), axis=0, dtype=np.float32)
    sources = {"mixture": mixture, **stems, "accompaniment": mixture - stems["vocals"]}
    quieter = f"mixture at {GAIN_DB:g} dB"
    originals = {**sources, quieter: np.float32(10 ** (GAIN_DB / 20)) * mixture}
    for name, audio in sources.items():
        _write_wav(out / f"{name}_original.wav", audio, rate)

    say("loads the model")
    work = _Work(out, store.load(model or store.DEFAULT_MODEL), rate, originals, _judges())
    say("encodes the mixture, the stems and the accompaniment")
    reports = [work.encode(name) for name in sources]
    say("adds, subtracts and scales latents")
    work.operate("sum", NAMES, mix)
    work.operate("vocals_by_subtraction", ["mixture", "accompaniment"], _difference)
    work.operate("karaoke", ["mixture", "vocals"], _difference)
    work.operate("quiet", ["mixture"], lambda parts: gain(parts[0], 10 ** (GAIN_DB / 20)))

    say("decodes and compares")
    rows = [_result(work, *row, opus=row[0] == row[-1]) for row in _plan(quieter)]
    qualities = []
    for quality in store.QUALITIES if work.model.groups("low") else ():
        say(f"the same at quality {quality}")
        work.encode("mixture", quality)
        work.encode("accompaniment", quality)
        work.operate("vocals_by_subtraction", ["mixture", "accompaniment"], _difference, quality)
        qualities += [_result(work, *row, quality=quality) for row in _AT_QUALITY]
    say("writes the page")
    _draw(work, rows)
    speed = sum(r.seconds for r in reports) / max(sum(r.elapsed for r in reports), 1e-9)
    summary = Summary(rows, qualities, speed, out, work.seconds, f"{work.model.name} {work.model.version}")
    _write_page(work, summary)
    return summary


def _plan(quieter: str) -> list[tuple[str, str, str, str, str]]:
    """Name, title, formula, what to listen for, and original of every result."""
    stem = "Its pitch and its attacks are coded; what lies above is rebuilt from levels."
    return [
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
        ("quiet", f"the mixture {-GAIN_DB:g} dB quieter", f"D({10 ** (GAIN_DB / 20):.2f} E(mix))",
         "The mixture, quieter, and nothing else: volume is multiplication.", quieter),
        *((n, f"the {n}, encoded and decoded", f"D(E({n}))", stem, n) for n in NAMES if n != "vocals"),
    ]  # fmt: skip


_AT_QUALITY = (
    ("mixture", "the mixture", "D(E(mix))", "", "mixture"),
    ("vocals_by_subtraction", "the vocals by subtraction", "D(E(mix) - E(rest))", "", "vocals"),
)


def _result(
    work: _Work, name: str, title: str, formula: str, listen: str, original: str, *, quality: str = "",
    opus: bool = False,
) -> Result:  # fmt: skip
    """Decodes a `.lat` file and scores it."""
    lat = work.lat(name, quality)
    wav = work.folder / f"{lat.stem}_decoded.wav"
    report = decode_file(work.model, lat, wav, overwrite=True)
    kbps = 8 * lat.stat().st_size / 1000 / work.seconds
    return Result(
        name, title, formula, listen, original, quality, kbps, work.operations.get(lat.stem),
        report.seconds / max(report.elapsed, 1e-9), _scores(work, wav, original),
        _opus(work, name, kbps, original) if opus else None,
    )  # fmt: skip


def _difference(parts: list[Latents]) -> Latents:
    return subtract(parts[0], parts[1:])


def _opus(work: _Work, name: str, kbps: float, original: str) -> tuple[float, dict[str, float]] | None:
    """Writes what an Opus file of the same size holds; kbit/s and scores, None where there is no encoder."""
    audio = work.originals[original]
    try:
        system = Opus(max(kbps / len(audio), LOWEST / 1000))
    except LincaeError:
        return None
    file = system.encode(audio)
    (work.folder / f"{name}.opus").write_bytes(file)
    wav = work.folder / f"{name}_opus.wav"
    _write_wav(wav, system.decoded(file, audio.shape[1]), work.rate)
    return 8 * len(file) / 1000 / work.seconds, _scores(work, wav, original)


def _judges() -> Judges | None:
    try:
        return Judges()
    except LincaeError:
        return None  # not installed: the page says how to install them


def _scores(work: _Work, wav: Path, original: str) -> dict[str, float]:
    x = work.originals[original]
    y = sf.read(wav, dtype="float32", always_2d=True)[0].T
    mono = y.mean(0), x.mean(0)
    found = {} if work.judges is None else {"Zimtohrli": work.judges.zimtohrli(*mono, work.rate)}
    return {
        **found,
        "SDR": metrics.sdr(y, x),
        "octaves": metrics.octave_levels(*mono, work.rate),
        "tone": metrics.tone(*mono, work.rate),
        "MSS": metrics.mss(y, x, work.rate),
    }


def _write_wav(path: Path, audio: np.ndarray, rate: int) -> None:
    with AudioWriter(path, rate, len(audio), subtype="PCM_16", overwrite=True) as writer:
        writer.write(audio.astype(np.float32))


def _draw(work: _Work, rows: list[Result]) -> None:
    pairs = []
    for row in rows:
        decoded = sf.read(work.folder / f"{row.name}_decoded.wav", dtype="float32", always_2d=True)[0]
        pairs.append(
            [(f"original: {row.original}", work.originals[row.original].mean(0)), (row.title, decoded.mean(1))]
        )
    title = "lincae demo: original (left) and result (right)"
    spectrogram_sheet(pairs, work.rate, work.folder / PICTURE, title)


def _write_page(work: _Work, summary: Summary) -> None:
    @cache
    def sound(file: str) -> dict[str, str]:
        return _playable(work, file)

    def original(row: Result) -> dict[str, str]:
        return {"label": f"original: {row.original}", "note": "", **sound(f"{row.original}_original")}

    def decoded(row: Result, label: str = "decoded") -> dict[str, str]:
        note = f"{row.kbps:.1f} kbit/s, {_short(row.scores)}"
        return {"label": label, "note": note, **sound(f"{work.lat(row.name, row.quality).stem}_decoded")}

    def opus(row: Result) -> dict[str, str]:
        kbps, scores = row.opus or (0.0, {})
        note = f"{kbps:.1f} kbit/s, {_short(scores)}"
        return {"label": "Opus, the same bytes", "note": note, **sound(f"{row.name}_opus")}

    write_page(
        "demo.html.j2", work.folder / PAGE, title="lincae demo", summary=summary, original=original, decoded=decoded,
        opus=opus, scores={name: SCORES[name] for name in summary.scores}, judged="Zimtohrli" in summary.scores,
    )  # fmt: skip


def _short(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in scores.items() if name in ("Zimtohrli", "SDR"))


def _playable(work: _Work, file: str) -> dict[str, Any]:
    """A WAV file, or an original, as a picture and as MP3 at its best quality, which every browser plays."""
    path = work.folder / f"{file}.wav"
    if path.exists():
        audio = sf.read(path, dtype="float32", always_2d=True)[0]
    else:
        audio = work.originals[file.removesuffix("_original")].T
    buffer = io.BytesIO()
    sf.write(buffer, np.clip(audio, -1, 1), work.rate, format="MP3", compression_level=0.0)
    return {
        "picture": data_url("image/png", picture_of(audio.mean(1), work.rate)),
        "audio": data_url("audio/mpeg", buffer.getvalue()),
    }
