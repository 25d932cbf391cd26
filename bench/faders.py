"""How well `lincae.faders` reads gains back: the demo stems mixed as latents, as audio, as MP3, and compressed.

An encoder that turns its input down turns down every fader: LAME does at 128 kbit/s. Errors of MP3 are therefore told
against the mix at the level that the MP3 has (`level_db`, by least squares on its samples).

python bench/faders.py
python bench/faders.py --stems FOLDER
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from common import Figures, parser, run, scratch, show

from lincae_core import faders, open_lat
from lincae_formats import read_lat, write_lat

STEMS = Path(__file__).parents[1] / "lincae_core" / "demo" / "stems"
NAMES = ("bass", "drums", "other", "vocals")
CURVES = {  # times, s, and gains, dB
    "bass": [(0, 0), (3, -8), (7, 2), (10, 2)],
    "drums": [(0, -3), (10, -3)],
    "other": [(0, -12), (5, 0), (10, -6)],
    "vocals": [(0, 0), (4, 0), (5, -10), (10, 0)],
}
QUALITIES = ("exact", "high", "medium")
TRIM = 0.5  # factor on mixes of audio, so that nothing is clipped


def factors(name: str, seconds: np.ndarray) -> np.ndarray:
    """The gains of a stem: straight lines in the factor."""
    times, levels = zip(*CURVES[name], strict=True)
    return np.interp(seconds, times, 10 ** (np.array(levels) / 20))


def errors(mix: Path, stems: list[Path], trim: float = 1.0) -> dict[str, Any]:
    """Errors of the gains at the points where a stem sounds, dB: the largest and the mean; and the residual, dB."""
    with open_lat(mix) as whole:
        opened = [open_lat(stem) for stem in stems]
        found = faders(whole, opened)
        for file in opened:
            file.close()
    wrong, names = [], [stem.stem for stem in stems]
    for gains, sounding, name in zip(found.gains, found.sounding, names, strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            error = 20 * np.log10(np.maximum(gains / trim, 1e-3) / factors(name, found.times))
        wrong.append(error[sounding])
    every = np.abs(np.concatenate(wrong))
    return {
        "largest_db": round(float(every.max()), 3),
        "mean_db": round(float(every.mean()), 3),
        "bias_db": {name: round(float(np.mean(w)), 3) for name, w in zip(names, wrong, strict=True) if len(w)},
        "residual_db": round(10 * np.log10(max(found.total, 1e-12)), 1),
    }


def compressed(audio: np.ndarray, rate: int) -> np.ndarray:
    """A compressor on the mix bus: 4:1 above -20 dBFS, 5 ms attack, 100 ms release."""
    level = np.abs(audio).max(axis=1)
    attack, release = np.exp(-1 / (0.005 * rate)), np.exp(-1 / (0.1 * rate))
    envelope, state = np.empty_like(level), 0.0
    for i, x in enumerate(level):
        state = x + (attack if x > state else release) * (state - x)
        envelope[i] = state
    over = np.maximum(20 * np.log10(np.maximum(envelope, 1e-6)) + 20, 0)
    return audio * 10 ** (-0.75 * over / 20)[:, None]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--stems", type=Path, default=STEMS, help="a folder of bass, drums, other and vocals")
    a = options.parse_args()
    figures: Figures = {}
    with scratch() as (folder, environment):
        names = [name for name in NAMES if (a.stems / f"{name}.flac").exists()]
        audio = {name: sf.read(a.stems / f"{name}.flac", dtype="float32", always_2d=True) for name in names}
        rate = next(rate for _, rate in audio.values())
        mix = sum(x * factors(name, np.arange(len(x)) / rate)[:, None] for name, (x, _) in audio.items())
        mix = TRIM * mix  # below full scale
        sf.write(folder / "audio.wav", mix, rate, subtype="FLOAT")
        sf.write(folder / "compressed.wav", compressed(mix, rate), rate, subtype="FLOAT")
        levels = {"audio.wav": 1.0, "compressed.wav": 1.0}
        for kbps in (320, 128):
            for command in (
                ["-i", "audio.wav", "-b:a", f"{kbps}k", "x.mp3"],
                ["-i", "x.mp3", "-c:a", "pcm_f32le", "x.wav"],
            ):
                subprocess.run(["ffmpeg", "-v", "error", "-y", *command], cwd=folder, check=True)
            decoded = sf.read(folder / "x.wav", dtype="float32", always_2d=True)[0][: len(mix)]
            levels[f"mp3-{kbps}.mp3"] = float(np.vdot(decoded, mix[: len(decoded)]) / np.vdot(mix, mix))
            (folder / "x.mp3").rename(folder / f"mp3-{kbps}.mp3")
        figures["level_db"] = {file: round(20 * np.log10(level), 3) for file, level in levels.items()}
        for quality in QUALITIES[: 1 if a.quick else None]:
            lats = folder / quality
            encode = [a.lincae, "encode", "--model", a.model, "--quality", quality, "-o"]
            run([*encode, f"{lats}/", *(str(a.stems / f"{name}.flac") for name in names)], environment)
            for name in names:
                points = " ".join(f"{time}:{level}dB" for time, level in CURVES[name])
                gained = ["gain", str(lats / f"{name}.lat"), "--curve", points, "-o", str(lats / f"{name}-gain.lat")]
                run([a.lincae, *gained], environment)
            stems = [lats / f"{name}.lat" for name in names]
            summed = ["mix", *(str(lats / f"{name}-gain.lat") for name in names), "-o", str(lats / "latents.lat")]
            run([a.lincae, *summed], environment)
            figures[quality] = {"mixed as latents": errors(lats / "latents.lat", stems)}
            for file, level in levels.items():
                target = lats / f"{Path(file).stem}.lat"
                run([*encode, str(target), str(folder / file)], environment)
                figures[quality][f"mixed as {file}"] = errors(target, stems, TRIM * level)
            if quality == "exact":
                (folder / "float16").mkdir()
                for lat in lats.glob("*.lat"):
                    write_lat(replace(read_lat(lat), dtype="float16"), folder / "float16" / lat.name)
                stems = [folder / "float16" / f"{name}.lat" for name in names]
                target = folder / "float16" / "latents.lat"
                figures["float16"] = {"mixed as latents": errors(target, stems)}
                for file, level in levels.items():
                    target = folder / "float16" / f"{Path(file).stem}.lat"
                    figures["float16"][f"mixed as {file}"] = errors(target, stems, TRIM * level)
    show(figures, a)


if __name__ == "__main__":
    main()
