"""Writes BENCHMARKS.md from the JSON of bench/results: no figure in it is typed by hand.

python bench/report.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agreement
import common
import table

from lincae_core.evaluation.report import from_json, markdown_of

GET_PEER = "pip install --no-deps --target build/peers linear-cae==0.1.4"
# What the project asks of itself: name of the command, limit in s.
CLI_BARS = {"lincae info": 0.3, "lincae mix of four": 0.3}
COPY_BAR = 0.25
DECODE_RATIO_BAR = 100
UNET_RATIO_BAR = 2.5
UNET_HALF_BAR = 1e-2  # largest relative difference
MEMORY_BAR = "under 1500 MB, and within 10 % of the short file's"
BEGINNINGS = ("linearity", "separation")  # tables shown of the run on the tracks' beginnings
LINEARITY = (
    ("recon", "MSS of decode(encode(x)) against x, mixtures"),
    ("snr dB", "SNR of decode(encode(x)), dB"),
    ("hom", "MSS of decode(a encode(x)) against a x"),
    ("add", "MSS of decode(sum of the stems' latents) against the mixture"),
    ("sep bass", "MSS of bass pulled out by subtraction"),
    ("sep drums", "MSS of drums pulled out by subtraction"),
    ("sep other", "MSS of other pulled out by subtraction"),
    ("sep vocals", "MSS of vocals pulled out by subtraction"),
    ("hom / recon", "1 is perfect homogeneity"),
    ("add / recon", "1 is perfect additivity"),
    ("sep bass / recon bass", "1: as good as the stem alone"),
    ("sep drums / recon drums", ""),
    ("sep other / recon other", ""),
    ("sep vocals / recon vocals", ""),
    ("enc hom", "relative error of encode(a x) against a encode(x)"),
    ("enc add", "relative error of the mixture's latents against the sum of the stems'"),
)


def main() -> None:
    """Writes the report."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--results", type=Path, default=common.ROOT / common.RESULTS)
    p.add_argument("--output", type=Path, default=common.ROOT / "BENCHMARKS.md")
    a = p.parse_args()
    a.output.write_text(report(a.results), encoding="utf-8")
    print(f"wrote {a.output}")


def report(results: Path) -> str:
    """The whole page."""
    parts = [
        "# Benchmarks\n\n"
        "This page is written by `python bench/report.py` from the JSON files in `bench/results`, which the\n"
        "commands below each table made; `make bench` runs them all. Times are wall-clock seconds."
    ]
    for name, title, section, command in SECTIONS:
        path = results / f"{name}.json"
        if path.is_file():
            record = json.loads(path.read_text(encoding="utf-8"))
            body = section(record["figures"])
            if name == "eval" and (other := results / "linearity.json").is_file():
                scores = json.loads(other.read_text(encoding="utf-8"))["figures"]
                body += agreement.sentence(scores, record["figures"])
            body += f"\n\n{_origin(record)}"
        else:
            body = f"Not measured yet. To measure: `{command}`"
        parts.append(f"## {title}\n\n{body}")
    return "\n\n".join(parts) + "\n"


def _linearity(figures: dict[str, Any]) -> str:
    scores = figures["scores"]
    rest = [key for key in dict.fromkeys(k for s in scores.values() for k in s) if key not in dict(LINEARITY)]
    body = [
        [f"`{key}`", meaning, *(table.number(score.get(key)) for score in scores.values())]
        for key, meaning in (*LINEARITY, *((key, "") for key in rest))
        if any(key in score for score in scores.values())
    ]
    models = [
        [label, f"{m['name']} {m['version']}", f"{m['parameters'] / 1e6:.1f} M", f"`{m['fingerprint'][7:19]}`"]
        for label, m in figures["models"].items()
        if label in scores
    ]
    part = figures["seconds_per_track"]
    data = f"the tracks {', '.join(figures['tracks'])}"
    data += f", the first {part:g} s of each" if part else ""
    return (
        f"`{figures['tool']}` on {data}, mono,\nthrough the command line. MSS: multi-scale spectral distance; lower is "
        "better in every row but the SNR. MSS values are means over 10 s segments. What the table's columns "
        "are:\n\n"
        + table.rows(["column", "model", "parameters", "fingerprint"], models)
        + "\n\n"
        + table.rows(["figure", "meaning", *scores], body)
    )


def _evaluation(figures: dict[str, Any]) -> str:
    whole, beginnings = figures["whole"], figures.get("beginnings")
    text = (
        f"`{whole['command']}`:\nthe paper's protocols on the tracks {', '.join(whole['tracks'])}, mono. The column "
        f"*source* says of every row whether it was measured\nhere or is the paper's own, on its own data.\n\n"
        f"{_systems(whole)}\n\n{_tables(whole)}"
    )
    if beginnings is None:
        return text
    seconds = beginnings["seconds"] / len(beginnings["tracks"])
    measured = {**beginnings, "tables": [_measured_only(t) for t in beginnings["tables"] if t["name"] in BEGINNINGS]}
    return (
        f"{text}\n\nA network of the paper's architecture with random weights, on the first {seconds:g} s of each "
        f"track only, as it is slow on a\nCPU, beside a model of the table above on the same seconds "
        f"(`{beginnings['command']}`):\n\n{_systems(beginnings)}\n\n{_tables(measured)}"
    )


def _systems(run: dict[str, Any]) -> str:
    head = ["system", "version", "kbit/s", "what it is", "fingerprint"]
    body = [
        [s["label"], s["version"], f"{8e-3 * s['bytes_per_second']:.1f}", s["notes"], f"`{s['fingerprint'][:19]}`"]
        for s in run["systems"]
    ]
    return table.rows(head, body)


def _tables(run: dict[str, Any]) -> str:
    return "\n\n".join(markdown_of(from_json(found)) for found in run["tables"])


def _measured_only(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "rows": [row for row in found["rows"] if row["source"] == "measured"], "note": ""}


def _held_out(figures: dict[str, Any]) -> str:
    body = [
        [r["model"], f"{r['mss']:.3f}", f"{r['snr_db']:.2f}", f"`{r['fingerprint'][7:19]}`"] for r in figures["rows"]
    ]
    return (
        f"The beginnings, {figures['seconds']:g} s each, of {figures['files']} clips of the training audio that no "
        "training saw, encoded and decoded, mono. Designs are\ncompared here (`recipes/EXPERIMENTS.md`). Other tracks "
        "of the same albums were trained on.\n\n" + table.rows(["model", "MSS", "SNR, dB", "fingerprint"], body)
    )


def _cli(figures: dict[str, Any]) -> str:
    commands = figures["commands"]
    body = [
        [f"`{name}`", *(f"{c[key]:.3f}" for key in ("median_s", "min_s", "max_s")), _bar(CLI_BARS.get(name))]
        for name, c in commands.items()
    ]
    runs = next(iter(commands.values()))["runs"]
    text = (
        f"Whole processes, from start to exit, on `.lat` files of {figures['file_seconds'] / 60:.3g} min, mono: the "
        f"median of {runs} runs\nafter one that does not count. `python -c pass` is the interpreter alone.\n\n"
        + table.rows(["command", "median s", "best s", "worst s", "asked for"], body)
    )
    audio = figures.get("decode_add_encode")
    if audio is None:
        return f"{text}\n\nThe same mix by decoding, adding and encoding: not measured."
    return (
        f"{text}\n\nThe same mix by decoding four files, adding and encoding: **{audio['estimated_total_s']:.1f} s, "
        f"{audio['times_the_mix']:.0f} times as long** as\n`lincae mix`. That is an estimate: 4 x "
        f"{audio['decode_one_s']:.2f} s + {audio['encode_one_s']:.2f} s, from one decode and one encode measured in a "
        "process\nthat had the model loaded already; the adding itself and loading are left out."
    )


def _library(figures: dict[str, Any]) -> str:
    body = [
        [
            f"`{row['command']}`",
            *(f"{row[key]:.2f}" for key in ("median_s", "min_s", "max_s")),
            f"{row['mb_per_s']:.0f}",
            f"**{row['of_cp']:.2f}**",
            f"{row['of_cp_sync']:.2f}",
        ]
        for row in figures["rows"]
    ]
    head = ["command", "median s", "best s", "worst s", "MB/s read", "speed, `cp` = 1", "speed, `cp` and `sync` = 1"]
    size = f"{figures['bytes'] / 1e6:.0f} MB"
    return (
        f"{figures['files']} `.lat` files of {figures['file_minutes']} min, mono, {size}: whole processes by turns, "
        f"{figures['rounds']} of each after one that does\nnot count. `gain` and `fade` write as many files, `mix` and "
        f"`concat` one. Asked for: at least {COPY_BAR:g} of `cp`'s speed. `cp` leaves in\nmemory what the system "
        "writes later; lincae waits until each file is on the disk.\n\n" + table.rows(head, body)
    )


def _extraction(figures: dict[str, Any]) -> str:
    body = [[row["way"], *(f"{row[key]:.2f}" for key in ("median_s", "min_s", "max_s"))] for row in figures["rows"]]
    return (
        f"{figures['files']} mixes and their accompaniments made of the demo's stems, mono, "
        f"{figures['audio_s'] / figures['files']:.0f} s each on average: total times, whole\nprocesses by turns, "
        f"{figures['rounds']} of each way.\n\n"
        + table.rows(["way", "median s", "best s", "worst s"], body)
        + f"\n\nOn `.lat` files the script is **{figures['times_as_fast']:.0f} times as fast** as the faster way by "
        "audio. From audio it has to encode mixes and\naccompaniments, where subtracting the audio costs nothing."
    )


def _codec(figures: dict[str, Any]) -> str:
    body = [
        [
            f"{row['seconds']:.3g}",
            f"{row['encode']['median_s']:.3f}",
            f"{row['encode_times_real_time']:.1f}",
            f"{row['decode']['median_s']:.3f}",
            f"{row['decode_times_real_time']:.1f}",
        ]
        for row in figures["rows"]
    ]
    head = ["audio s", "encode s", "x real time", "decode s", "x real time"]
    runs = figures["rows"][0]["decode"]["runs"]
    text = (
        f"Mono arrays in memory, {figures['threads']} threads, one sampling step, median of {runs} runs.\n\n"
        + table.rows(head, body)
    )
    if work := figures.get("work"):
        text += (
            f"\n\nA second of audio takes {work['encode']['gflop_per_audio_s']:.2f} GFLOP to encode and "
            f"{work['decode']['gflop_per_audio_s']:.2f} GFLOP to decode (matrix products and convolutions). On the "
            f"longest audio that was\n{work['encode']['gflop_s']:.0f} and {work['decode']['gflop_s']:.0f} GFLOP/s; a "
            f"product of two 2048 x 2048 float32 matrices reached {work['peak_gflop_s']:.0f} in the same run."
        )
    peer = figures.get("peer")
    if peer is None:
        return f"{text}\n\nBeside `linear-cae`: not measured yet. To measure: `{GET_PEER}`, then again."
    ratios = [
        [f"{seconds} s", f"{ratio:.0f}", f"{figures['ratios']['encode'][seconds]:.0f}"]
        for seconds, ratio in figures["ratios"]["decode"].items()
    ]
    return (
        f"{text}\n\nThe network of `{peer['name']}` {peer['version']} ({peer['parameters'] / 1e6:.2f} M parameters, "
        f"the paper's configuration, random weights), in the\nsame run on the same threads, took "
        f"{peer['decode']['median_s']:.2f} s to decode one piece of {peer['seconds']:.2f} s "
        f"({peer['latent_frames']} latent frames):\n{peer['decode_times_real_time']:.2f} x real time; encoding "
        f"{peer['encode_times_real_time']:.2f} x (median of {peer['decode']['runs']}). Only one short piece, because "
        "it is slow; the\noverlaps that its long audio costs are not counted. How many times faster this model is on "
        f"its lengths\n(asked for: at least {DECODE_RATIO_BAR} in decoding):\n\n"
        + table.rows(["this model's audio", "decode, times", "encode, times"], ratios)
    )


def _unet(figures: dict[str, Any]) -> str:
    peer = f"`{figures['peer']['name']}` {figures['peer']['version']}"
    window, audio, peak = figures["window"], figures["audio"], figures["peak_gflop_s"]
    bare = [
        [
            f"{what}, one window",
            f"{w['seconds']['theirs']:.3f}",
            f"{w['seconds']['ours']:.3f}",
            f"**{w['times_faster']['theirs']:.2f}**",
            f"{w['largest_relative_difference']:.0e}",
        ]
        for what, w in window.items()
    ]
    ways = {"whole": "as it comes, all at once", "chunks": "in chunks of 64 STFT frames"}
    long = [
        [
            f"{what} {audio['seconds']:g} s, theirs {way}",
            f"{audio[what]['seconds'][key]:.2f}",
            f"{audio[what]['seconds']['ours']:.2f}",
            f"**{audio[what]['times_faster'][key]:.2f}**",
            "-",
        ]
        for what in ("decode", "encode")
        for key, way in ways.items()
    ]
    head = ["", f"{peer}, s", "`unet`, s", "times faster", "largest relative difference"]
    profile, computed = figures["profile"], audio["latent_frames_computed"]
    kinds = [
        [kind, *(cell for who in ("theirs", "ours") for cell in _cost(profile[who], kind))] for kind in profile["ours"]
    ]
    work = figures["window_gflop"]["decode"]
    theirs, mine = (window["decode"]["seconds"][who] for who in ("theirs", "ours"))
    return (
        f"The paper's network with the same random weights, in turns on the same {figures['threads']} threads: medians "
        f"of {window['decode']['runs']} turns on one\nwindow of 8 latent frames, of {audio['decode']['runs']} on the "
        f"audio. Asked for: at least {UNET_RATIO_BAR} in decoding.\n\n"
        + table.rows(head, bare + long)
        + f"\n\nThe audio has {audio['latent_frames']} latent frames. With what overlaps, `unet` computes "
        f"{computed['ours']}, the peer {computed['chunks']} in chunks, and {computed['whole']} all at\nonce, where the "
        "norms see other statistics than in training.\n\nWhere decoding one window spends its time:\n\n"
        + table.rows(["kind of work", f"{peer}, s", "share", "`unet`, s", "share"], kinds)
        + f"\n\nThat window is {work:.0f} GFLOP by definition: {work / theirs:.0f} GFLOP/s for the peer, and "
        f"{work / mine:.0f} for `unet`, which does the same with fewer\nmultiplications. A product of two 2048 x 2048 "
        f"matrices reached {peak:.0f} GFLOP/s in the same run: at that rate the network by\ndefinition, and nothing "
        f"beside it, would be {theirs * peak / work:.2f} times as fast as the peer." + _half(figures.get("bfloat16"))
    )


def _half(figures: dict[str, Any] | None) -> str:
    """What bfloat16 would bring the paper's network, and by how much it would differ."""
    if figures is None:
        return ""
    body = [
        [
            way,
            *(f"{f['seconds'][who]:.3f}" for who in ("theirs", "float32", "ours")),
            f"**{f['times_faster']['theirs']:.2f}**",
            f"{f['largest_relative_difference']:.1e}",
        ]
        for way, f in figures.items()
    ]
    head = ["in bfloat16", "peer, s", "`unet`, s", "in bfloat16, s", "times faster than the peer"]
    return (
        "\n\nWhat decoding one window would take in bfloat16, in turns with the others:\n\n"
        + table.rows([*head, "largest relative difference"], body)
        + "\n\n"
        f"Asked for: at most {UNET_HALF_BAR:g} of difference; so on a CPU `unet` computes in float32."
    )


def _cost(seconds: dict[str, float], kind: str) -> tuple[str, str]:
    return f"{seconds[kind]:.3f}", f"{100 * seconds[kind] / sum(seconds.values()):.0f} %"


def _training(figures: dict[str, Any]) -> str:
    body = [
        [
            r["precision"],
            f"{r['batch']} x {r['crop_frames']}",
            f"{r['s_per_step']:.3f}",
            f"{r['audio_s_per_s']:.1f}",
            f"{r['gflop_per_step']:.0f}",
            f"{r['gflop_s']:.0f}",
            f"{figures['peak_gflop_s'][r['precision']]:.0f}",
            f"{100 * r['share_of_peak']:.0f} %",
        ]
        for r in figures["rows"]
    ]
    head = ["precision", "crops x frames", "s a step", "audio s per s", "GFLOP a step", "GFLOP/s", "peak", "share"]
    return (
        f"Whole steps of `recipes/{figures['recipe']}` on {figures['device']}, {figures['threads']} threads, with\n"
        "data, spectra, optimiser and moving average. GFLOP: matrix products and convolutions, both ways.\n"
        "Peak: a product of two 2048 x 2048 matrices in the same run.\n\n" + table.rows(head, body)
    )


def _memory(figures: dict[str, Any]) -> str:
    body = [
        [
            f"`lincae {r['command']}`",
            f"{r['minutes']:g}",
            f"{r['peak_mb']:.0f}",
            f"{r['elapsed_s']:.1f}",
            f"{r['times_real_time']:.1f}",
        ]
        for r in figures["rows"]
    ]
    ratios = ", ".join(f"{name} {ratio:.3f}" for name, ratio in figures["peak_ratio_long_to_short"].items())
    return (
        f"Mono PCM_16 WAV at 44.1 kHz, whole processes, peak resident size by `{figures['measured_with']}`.\n\n"
        + table.rows(["command", "audio min", "peak MB", "s", "x real time"], body)
        + f"\n\nPeak of the long file over that of the short one: {ratios}. Asked for: {MEMORY_BAR}."
    )


def _arrangement(figures: dict[str, Any]) -> str:
    body = [
        [f"{row['minutes']:g}", *(f"{row[key]:.1f}" for key in ("peak_mb", "worst_peak_mb", "elapsed_s", "worst_s"))]
        for row in figures["rows"]
    ]
    return (
        f"`lincae render song.yaml -o song.lat`: {figures['tracks']} mono tracks with gains, curves and offsets, half "
        f"of them\non a bus. Whole processes by turns, {figures['runs']} of each, peak resident size by "
        f"`{figures['measured_with']}`.\n\n"
        + table.rows(["a track's min", "median peak MB", "worst peak MB", "median s", "worst s"], body)
        + f"\n\nMedian peak of the long song over that of the short one: {figures['peak_ratio_long_to_short']:.3f}. "
        "Asked for: constant memory."
    )


def _sizes(figures: dict[str, Any]) -> str:
    body = [
        [
            "1 sample" if r["frames"] == 1 else f"{r['seconds']:g} s",
            r["channels"],
            r["wav_bytes"],
            r["lat_bytes"],
            r["overhead_bytes"],
            f"{r['times_smaller']:.2f}",
            "-" if r["kbit_per_s_and_channel"] is None else f"{r['kbit_per_s_and_channel']:.2f}",
        ]
        for r in figures["rows"]
    ]
    head = ["audio at 44.1 kHz", "channels", "16-bit WAV, bytes", "`.lat`, bytes", "of it not latents"]
    return "float16 `.lat` files.\n\n" + table.rows([*head, "times smaller", "kbit/s a channel"], body)


def _origin(record: dict[str, Any]) -> str:
    m = record["machine"]
    facts = [m["system"], m["cpu"], f"{m['cores']} cores"]
    facts += [f"{m['memory_gb']} GB"] if m["memory_gb"] else []
    facts += [f"{name} {m[name]}" for name in ("python", "torch", "numpy", "h5py") if m[name]]
    text = f"`{record['command']}`  \n{record['date']}; {', '.join(facts)}"
    model = record.get("model")
    if model:
        size = f"{model['parameters'] / 1e6:.1f} M parameters, {model['bytes'] / 1e6:.1f} MB"
        text += f"; model {model['name']} {model['version']} ({size}, `{model['fingerprint'][7:19]}`)"
    return f"<sub>{text}</sub>"


def _bar(limit: float | None) -> str:
    return "-" if limit is None else f"< {limit:g}"


Section = Callable[[dict[str, Any]], str]
SECTIONS: tuple[tuple[str, str, Section, str], ...] = (
    (
        "linearity",
        "Linearity",
        _linearity,
        "python bench/linearity.py --tool PATH/score_linearity.py --stems FOLDER --score shipped=frame "
        "--score ablation=WEIGHTS",
    ),
    ("held_out", "Held-out clips", _held_out, "python bench/held_out.py --score frame --score frame-0.3"),
    ("eval", "Systems compared", _evaluation, "python bench/evaluation.py --data FOLDER"),
    ("cli_speed", "Speed of the command line", _cli, "python bench/cli_speed.py"),
    ("library", "A library of files", _library, "python bench/library.py"),
    ("extraction", "Extracting stems", _extraction, "python bench/extraction.py"),
    ("decode_speed", "Speed of the codec", _codec, "python bench/decode_speed.py"),
    ("unet_speed", "Speed of the paper's network", _unet, "python bench/unet_speed.py"),
    ("training_speed", "Speed of training", _training, "python bench/training_speed.py"),
    ("memory", "Memory", _memory, "python bench/memory.py"),
    ("arrangement", "Memory of an arrangement", _arrangement, "python bench/arrangement.py"),
    ("sizes", "File sizes", _sizes, "python bench/sizes.py"),
)


if __name__ == "__main__":
    main()
