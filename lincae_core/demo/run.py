"""What the demo does, step by step, on ten seconds of CC0 stems."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lincae_formats import Latents, gain, mix, read_lat, subtract, write_lat
from lincae_formats.errors import LincaeError

STEMS = Path(__file__).parent / "stems"
NAMES = ("bass", "drums", "other", "vocals")
GAIN_DB = -12.0


@dataclass(frozen=True)
class Row:
    """One result of the demo.

    Args:
        name: of its files.
        title: what was done.
        formula: the same as arithmetic on latents.
        lat_bytes: size of the `.lat` file.
        pcm_bytes: size of the same audio as 16-bit PCM.
        operation_seconds: time of the arithmetic in latent space, files read and written; None where there is none.
        decode_speed: decoding, times real time.
        distance: MSS of the decoded audio against the truth.
        truth_name: what the truth is.
    """

    name: str
    title: str
    formula: str
    lat_bytes: int
    pcm_bytes: int
    operation_seconds: float | None
    decode_speed: float
    distance: float
    truth_name: str


@dataclass(frozen=True)
class Summary:
    """What the demo measured beside its rows.

    Args:
        rows: the results.
        encode_speed: encoding of all sources, times real time.
        folder: where everything lies.
        seconds: length of the audio, s.
    """

    rows: list[Row]
    encode_speed: float
    folder: Path
    seconds: float


def run_demo(out: Path | None = None, *, tell: Callable[[str], None] | None = None) -> Summary:
    """Encodes the bundled mixture and stems, works on the latents, decodes, compares.

    Args:
        out: folder for audio, `.lat` files, `spectrograms.png` and `index.html`; `lincae-demo` by default.
        tell: called with a line before each stage.

    Raises:
        LincaeError: the folder cannot be written.
    """
    import soundfile as sf

    from lincae_core.demo.page import write_page
    from lincae_core.evaluation.mss import mss
    from lincae_core.evaluation.pictures import spectrogram_sheet
    from lincae_core.models.registry import load
    from lincae_core.pipeline import decode_file, encode_file

    say = tell or (lambda _: None)
    out = Path(out) if out else Path("lincae-demo")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise LincaeError(f"{out}: cannot make the folder ({e.strerror})", "choose another -o") from None

    say("reads the stems")
    stems = {}
    for name in NAMES:
        audio, rate = sf.read(STEMS / f"{name}.flac", dtype="float32", always_2d=True)
        stems[name] = audio.T
    mixture = np.sum(list(stems.values()), axis=0)
    factor = 10 ** (GAIN_DB / 20)
    accompaniment = mixture - stems["vocals"]
    sources = {"mixture": mixture, **stems, "accompaniment": accompaniment}
    for name, audio in sources.items():
        _write_wav(out / f"{name}_original.wav", audio, rate)

    say("loads the model")
    model = load()
    say("encodes the mixture, the stems and the accompaniment")
    encoded = [
        encode_file(model, out / f"{name}_original.wav", out / f"{name}.lat", overwrite=True) for name in sources
    ]

    say("adds, subtracts and scales latents")
    z = {name: out / f"{name}.lat" for name in sources}
    timed = {
        "sum": _operate(out / "sum.lat", [z[n] for n in NAMES], mix),
        "vocals_by_subtraction": _operate(
            out / "vocals_by_subtraction.lat",
            [z["mixture"], z["accompaniment"]],
            lambda parts: subtract(parts[0], parts[1:]),
        ),
        "karaoke": _operate(
            out / "karaoke.lat", [z["mixture"], z["vocals"]], lambda parts: subtract(parts[0], parts[1:])
        ),
        "quiet": _operate(out / "quiet.lat", [z["mixture"]], lambda parts: gain(parts[0], factor)),
    }
    stems_sum = "D(E(bass) + E(drums) + E(other) + E(vocals))"
    difference = "D(E(mix) - E(bass + drums + other))"
    vocals, quieter = stems["vocals"], f"mixture at {GAIN_DB:g} dB"
    plan = [
        ("mixture", "the mixture, encoded and decoded", "D(E(mix))", mixture, "mixture"),
        ("sum", "the four stems, added as latents", stems_sum, mixture, "mixture"),
        ("vocals", "the vocals, encoded and decoded", "D(E(vocals))", vocals, "vocals"),
        ("vocals_by_subtraction", "the vocals, by subtraction", difference, vocals, "vocals"),
        ("karaoke", "the mixture without its vocals", "D(E(mix) - E(vocals))", accompaniment, "accompaniment"),
        ("quiet", f"the {quieter}", f"D({factor:.2f} E(mix))", factor * mixture, quieter),
        *((n, f"the {n}, encoded and decoded", f"D(E({n}))", stems[n], n) for n in NAMES if n != "vocals"),
    ]

    say("decodes")
    rows, pictures = [], []
    for name, title, formula, truth, truth_name in plan:
        wav = out / f"{name}_decoded.wav"
        report = decode_file(model, out / f"{name}.lat", wav, overwrite=True)
        decoded = sf.read(wav, dtype="float32", always_2d=True)[0].T
        rows.append(
            Row(
                name, title, formula, (out / f"{name}.lat").stat().st_size, 2 * truth.size, timed.get(name),
                report.seconds / max(report.elapsed, 1e-9), mss(decoded, truth.astype(np.float32), rate), truth_name,
            )
        )  # fmt: skip
        pictures.append([(f"truth: {truth_name}", truth.mean(0)), (title, decoded.mean(0))])
    say("draws")
    spectrogram_sheet(pictures, rate, out / "spectrograms.png", "lincae demo: truth (left) and result (right)")
    speed = sum(r.seconds for r in encoded) / max(sum(r.elapsed for r in encoded), 1e-9)
    summary = Summary(rows, speed, out, mixture.shape[1] / rate)
    write_page(summary, {name: (audio, rate) for name, audio in _truths(plan).items()})
    return summary


def _truths(plan: list[tuple[str, str, str, np.ndarray, str]]) -> dict[str, np.ndarray]:
    return {truth_name: truth for _, _, _, truth, truth_name in plan}


def _operate(target: Path, operands: list[Path], operation: Callable[[list[Latents]], Latents]) -> float:
    """Reads latents, works on them, writes the result; returns the time it took in s."""
    began = time.perf_counter()
    write_lat(operation([read_lat(p) for p in operands]), target, overwrite=True)
    return time.perf_counter() - began


def _write_wav(path: Path, audio: np.ndarray, rate: int) -> None:
    from lincae_core.audio import AudioWriter

    with AudioWriter(path, rate, len(audio), subtype="PCM_16", overwrite=True) as writer:
        writer.write(audio.astype(np.float32))
