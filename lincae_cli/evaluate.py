"""`lincae eval`, `compare`, `plot` and `demo`: systems and files measured, drawn and made to hear."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from . import messages
from .messages import Progress, failure, format_time, usage_error
from .options import (
    DURATION,
    STDIO,
    OneOf,
    Shard,
    Text,
    Whole,
    argument,
    as_json,
    command,
    device,
    force,
    model,
    output,
    shard,
)  # fmt: skip
from .paths import ModelCache, check_targets, decoded, is_lat, open_audio, open_source, open_target

if TYPE_CHECKING:
    from lincae_core.compare import Comparison
    from lincae_core.demo import Summary
    from lincae_core.plot import LatentPicture, Spectrogram

OUT = "lincae-eval"
PICTURES = (".png", ".svg", ".pdf")
JUDGES = "Also ask ViSQOL, Zimtohrli, basic-pitch and STOI: pip install 'lincae[judges]'."


def _gains(text: str) -> tuple[float, ...]:
    from lincae_formats.header import parse_gain

    found = tuple(parse_gain(part) for part in text.split(","))
    if 0 in found:
        raise ValueError("has a gain of 0, against which no error can be measured")
    return found


GAINS = Text("a,b", _gains, "0.5,2")


@command(
    "eval",
    "lincae eval --data musdb18hq --model frame --model opus-12 --html report.html",
    "lincae eval --data stems --seconds 10 --judges --model frame:low --model frame:high --model opus-24",
)
@click.option("--data", metavar="DIR", help="Tracks: DIR/TRACK/{bass,drums,other,vocals}.wav, or MUSDB18.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="M",
    help="A model's name or file, with :low, :medium, :high or :exact for a quality of its files; opus-KBPS; klt "
    "(fitted on the other tracks), klt:DIR; identity; stable-audio-vae; random:unet. Repeat it for more.",
)
@click.option("--judges", is_flag=True, help=JUDGES)
@click.option("--seconds", type=DURATION, help="Only the beginning of each track.")
@click.option("--tracks", multiple=True, metavar="A,B", help="Only these tracks; may be repeated.")
@click.option("--json", "json", metavar="F", help="Write all figures; - is stdout.")
@click.option("--html", metavar="F", help="Write a page with players.")
@click.option("--markdown", metavar="F", help="Write the tables.")
@click.option("--csv", metavar="F", help="Write the tables.")
@click.option("--latex", metavar="F", help="Write the tables.")
@output(f"Folder for figures and excerpts; the same command continues there. [default: {OUT}]", metavar="DIR")
@click.option("--gains", type=GAINS, help="Gains of homogeneity. [default: 0.25,0.5,0.75,1.5]")
@click.option("--steps", type=Whole(1, 1000), default=1, help="Sampling steps of consistency models.")
@click.option("--seed", type=Whole(0, 2**63 - 1), default=0, help="Seed of their noise.")
@click.option(
    "--subtype",
    type=OneOf("PCM_16", "PCM_24", "FLOAT"),
    default="PCM_16",
    help="How decoded audio is rounded, as in a file.",
)
@device
@shard
@force
def evaluate(
    data: str | None, models: tuple[str, ...], judges: bool, seconds: float | None, tracks: tuple[str, ...], json: str |
    None, html: str | None, markdown: str | None, csv: str | None, latex: str | None, output: str | None, gains:
    tuple[float, ...] | None, steps: int, seed: int, subtype: str, device: str, shard: Shard | None, force: bool,
) -> None:  # fmt: skip
    """Compare systems by the paper's protocols and by their sound.

    Each row says what a system costs in kbit/s, the file's header included. An interrupted run continues where it
    stopped. With --shard, processes that share the folder measure a part each, and the last to end prints the tables.
    """
    if data is None:
        raise usage_error("lincae eval: --data is missing", "for example: lincae eval --data stems --model frame")
    targets = {"json": json, "html": html, "markdown": markdown, "csv": csv, "latex": latex}
    wanted = {kind: target for kind, target in targets.items() if target is not None}
    _check_reports(wanted, force)

    from lincae_core.evaluation import results as runs
    from lincae_core.evaluation.dataset import find_tracks
    from lincae_core.evaluation.protocols import GAINS
    from lincae_core.evaluation.systems import Options, choose_systems

    folder, out = Path(data), Path(output or OUT)
    every = find_tracks(folder)
    some = find_tracks(folder, _names(tracks, {track.name for track in every}))
    for track in some:
        for path in track.unknown:
            messages.say("note", f"{path} is not used: it is no stem (bass, drums, other, vocals) and not the mixture")
    systems = choose_systems(models or ["frame"], every, Options(device, steps, seed))
    settings = runs.Settings(
        seconds=seconds, gains=gains or GAINS, steps=steps, seed=seed, subtype=subtype, judges=judges
    )
    with Progress() as progress:
        more: dict[str, Any] = {} if shard is None else {"mine": shard.holds}
        results, failures = runs.evaluate(
            folder, some, systems, out, settings, device=device, say=progress.line, **more
        )
    if left := results.get("left"):
        messages.say("note", f"{left} of {len(some) * len(systems)} measurements are left to other shards")
    elif results["systems"] and not results["measures"]:
        failures.append(failure(f"{data}: every track is silent, nothing can be measured", "give other tracks"))
    elif results["systems"]:
        _report(results, out, wanted)
    for error in failures:
        messages.show(error)
    if failures:
        total = len(some) * len(systems)
        if total > 1 and results["measures"]:
            messages.say("error", f"{len(failures)} of {total} measurements failed; the others are done")
        raise click.exceptions.Exit(messages.FAILURE)


def _names(texts: tuple[str, ...], known: set[str]) -> list[str]:
    """Track names from `A,B`; a name that has a comma itself is taken whole."""
    parts = [[text] if text in known else text.split(",") for text in texts]
    return [name.strip() for part in parts for name in part if name.strip()]


def _check_reports(wanted: dict[str, str], force: bool) -> None:
    from lincae_formats import check_target

    files = [target for target in wanted.values() if target != STDIO]
    if len(wanted) - len(files) > 1:
        raise usage_error("only one of --json, --markdown, --csv and --latex can go to stdout", "name files instead")
    if wanted.get("html") == STDIO:
        raise usage_error("--html writes a page to open in a browser", "write --html report.html")
    twice = next((f for i, f in enumerate(files) if f in files[:i]), None)
    if twice is not None:
        raise usage_error(f"{twice} would be written twice", "give every output a file of its own")
    for target in files:
        if Path(target).is_dir():
            raise failure(f"{target} is a folder", f"name a file: {Path(target) / 'report'}")
        check_target(target, force)


def _report(results: dict[str, Any], out: Path, wanted: dict[str, str]) -> None:
    """Writes what was asked for; the tables go to stdout unless something else does."""
    from lincae_core.evaluation import report
    from lincae_core.evaluation.results import dump_results
    from lincae_formats import atomic_path

    printed = False
    for kind, target in wanted.items():
        if kind == "html":
            report.write_html(results, out, Path(target))
            continue
        text = dump_results(results, out, Path(target).parent) if kind == "json" else report.render(results, kind)
        if target == STDIO:
            click.echo(text.rstrip("\n"))
            printed = True
        else:
            with atomic_path(target, overwrite=True) as temporary:
                temporary.write_text(text, encoding="utf-8")
    if not printed:
        click.echo(report.render(results, "terminal").rstrip("\n"))


@command("compare", "lincae compare song.wav song.lat", "lincae compare song.wav copy.mp3 --judges --json")
@argument("reference", "A", "The original: audio or .lat, or - for stdin.")
@argument("other", "B", "What is compared with it: audio or .lat.")
@model("The model to decode a .lat with; by default the one that encoded it.")
@click.option("--judges", is_flag=True, help=JUDGES)
@device
@as_json
def compare(reference: str, other: str, model: str | None, judges: bool, device: str, as_json: bool) -> None:
    """Tell how far apart two files are.

    Prints RMS levels, the signal-to-distortion ratio (SDR), the multi-scale spectral distance (MSS), buzz at the
    decoder's frame rate (tone), errors of octave levels and of the stereo image. A .lat is decoded. The length that
    both have is compared; B is resampled where its sample rate differs.
    """
    names = (reference, other)
    if names == (STDIO, STDIO):
        raise usage_error("stdin (-) can be read only once", "name a file for the other input")
    cache = ModelCache(device)
    with ExitStack() as stack, Progress() as progress:
        a, b = (open_audio(name, cache, model, stack) for name in names)

        from lincae_core.compare import compare as measure

        found = measure(a, b, names, judges=judges, progress=progress.bar(f"{reference}, {other}"))
    facts = _facts(names, (a, b), found)
    click.echo(messages.dumps(facts) if as_json else _lines(facts))


def _facts(names: tuple[str, str], audio: tuple[Any, Any], found: Comparison) -> dict[str, Any]:
    files = [
        {
            "file": name,
            "duration": source.num_samples / source.sample_rate,
            "sample_rate": source.sample_rate,
            "channels": source.channels,
            "level_db": _finite(level),
        }
        for name, source, level in zip(names, audio, (found.level_db, found.other_level_db), strict=True)
    ]
    return {
        "files": files,
        "compared": found.num_samples / found.sample_rate,
        "channels": found.channels,
        "equal": found.equal,
        "sdr_db": None if found.equal else _finite(found.sdr_db),
        **{name: _finite(value) for name, value in found.sound.items()},
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinities: null stands for silence, and for the SDR of equal files."""
    import math

    return value if math.isfinite(value) else None


# key of the facts, label, format, what it means
_SCORES = (
    ("mss", "MSS", "{:.3f}", "0 is equal"),
    ("tone", "tone", "{:.2f}", "1 is right; more: the decoder buzzes at its frame rate"),
    ("octaves_db", "octave levels", "{:.1f} dB", "mean error from 500 Hz to 16 kHz"),
    ("image_db", "stereo image", "{:.1f} dB", "mean error of side to middle"),
    ("visqol", "ViSQOL", "{:.2f}", "mean opinion score, 1 to 5"),
    ("zimtohrli", "Zimtohrli", "{:.2f}", "mean opinion score, 1 to 5"),
    ("notes", "notes", "{:.2f}", "F1 of what basic-pitch hears, 0 to 1"),
    ("stoi", "STOI", "{:.2f}", "intelligibility of a voice alone, 0 to 1"),
)


def _lines(facts: dict[str, Any]) -> str:
    a, b = facts["files"]
    rows = [
        ("", *(messages.one_line(f["file"]) for f in (a, b))),
        ("duration", *(f"{format_time(round(f['duration'], 3))} min" for f in (a, b))),
        ("sample rate", *(f"{f['sample_rate']} Hz" for f in (a, b))),
        ("channels", *(str(f["channels"]) for f in (a, b))),
        ("RMS level", *("silence" if f["level_db"] is None else f"{f['level_db']:.1f} dBFS" for f in (a, b))),
    ]
    widths = [max(13, *(len(row[0]) for row in rows)), *(max(len(row[i]) for row in rows) for i in (1, 2))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    if a["duration"] != b["duration"]:
        lines.append(f"{'compared':<{widths[0]}}  the first {format_time(round(facts['compared'], 3))} min")
    if facts["channels"]:
        lines.append(f"{'':<{widths[0]}}  {facts['channels']}")
    sdr = "-" if facts["sdr_db"] is None else f"{facts['sdr_db']:.1f} dB"
    lines.append(f"{'SDR':<{widths[0]}}  {'the same samples' if facts['equal'] else sdr}")
    for key, label, form, meaning in _SCORES:
        if key in facts:
            shown = "-" if facts[key] is None else form.format(facts[key])
            lines.append(f"{label:<{widths[0]}}  {shown:<8}  ({meaning})")
    return "\n".join(lines)


@command("plot", "lincae plot song.lat -o song.png", "lincae plot song.wav -o song.svg")
@argument("file", "LAT|AUDIO", "A .lat or audio file, or - for stdin.", required=True)
@output("The .png, .svg or .pdf file to write, or - for stdout.")
@model("The model to encode or decode with.")
@device
@force
def plot(file: str, output: str | None, model: str | None, device: str, force: bool) -> None:
    """Draw a file's latents, their level, and its spectrogram.

    Audio is encoded for it. A .lat is decoded for its spectrogram, if its model is installed.
    """
    if output is None:
        raise usage_error("lincae plot: -o is missing", f"add -o {Path(file).stem or 'out'}.png")
    suffix = Path(output).suffix.lower() if output != STDIO else ".png"
    if suffix not in PICTURES:
        raise usage_error(f"-o {output} is no kind of picture", f"write -o {Path(output).stem}.png, .svg or .pdf")
    check_targets([output], [file], force)
    target = open_target(output)
    cache = ModelCache(device)

    with Progress() as progress, ExitStack() as stack:
        source = open_source(file, "audio or a .lat file")
        drawing = _of_lat if is_lat(file) else _of_audio
        title, latents, spectrum = drawing(source, cache, model, stack, progress)

        from lincae_core.plot import draw

        draw(title, latents, spectrum, target, format=suffix[1:], overwrite=force)


Drawing = tuple[str, "LatentPicture", "Spectrogram | None"]


def _of_lat(
    source: str | BinaryIO, cache: ModelCache, model: str | None, stack: ExitStack, progress: Progress
) -> Drawing:
    from lincae_core.plot import latent_picture, spectrogram
    from lincae_formats import LatReader, LincaeError
    from lincae_formats.signal import blocks

    reader = stack.enter_context(LatReader(source))
    latents = latent_picture(reader.header, blocks(reader))
    try:
        audio = decoded(reader, cache, model)
    except LincaeError as e:
        if model is not None:
            raise
        messages.say("note", f"no spectrogram: {e}")
        return f"{reader.name}  (model {reader.header.model}, not installed)", latents, None
    return reader.name, latents, spectrogram(audio, progress.bar(reader.name))


def _of_audio(
    source: str | BinaryIO, cache: ModelCache, model: str | None, stack: ExitStack, progress: Progress
) -> Drawing:
    info = cache.info(model)

    from lincae_core.audio import AudioReader
    from lincae_core.plot import latent_picture, spectrogram

    reader = stack.enter_context(AudioReader(source))
    loaded = cache.load(info, to_encode=True)

    from lincae_core.models.codec import encoded_blocks, encoded_header

    spectrum = spectrogram(reader, progress.bar(reader.name))
    blocks = (latents for latents, _ in encoded_blocks(loaded, reader))
    return reader.name, latent_picture(encoded_header(loaded, reader), blocks), spectrum


@command("demo", "lincae demo -o lincae-demo")
@output("The folder to write audio, picture and page to. [default: lincae-demo]", metavar="DIR")
@model("The model; the default one without.")
def demo(output: str | None, model: str | None) -> None:
    """Make audio to hear what lincae does.

    Encodes the bundled stems, adds, subtracts and scales them, and decodes the results.
    """
    from lincae_core.demo import run_demo

    with Progress() as progress:
        summary = run_demo(Path(output or "lincae-demo"), model=model, tell=lambda text: progress.line(f"{text} ..."))
    _print_demo(summary)


def _print_demo(summary: Summary) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("result")
    for title in ("kbit/s", "operation", "decode", *summary.scores):
        table.add_column(title, justify="right", no_wrap=True)

    def add(title: str, kbps: float, operation: str, decode: str, scores: dict[str, float]) -> None:
        table.add_row(title, f"{kbps:.1f}", operation, decode, *(f"{scores[name]:.2f}" for name in summary.scores))

    for row in summary.rows:
        operation = "-" if row.operation_seconds is None else f"{1000 * row.operation_seconds:.0f} ms"
        add(row.title, row.kbps, operation, f"{row.decode_speed:.0f}x real time", row.scores)
        if row.opus is not None:
            add("  Opus of the same bytes", row.opus[0], "", "", row.opus[1])
    for row in summary.qualities:
        add(f"{row.title}, {row.quality}", row.kbps, "", f"{row.decode_speed:.0f}x real time", row.scores)
    Console(width=200, highlight=False, color_system=None).print(table)
    click.echo(
        f"\n{summary.seconds:.0f} s of stereo, encoded at {summary.encode_speed:.0f}x real time. kbit/s: of both "
        "channels, header included."
    )
    click.echo(f"Listen: open {summary.folder / 'index.html'}")
