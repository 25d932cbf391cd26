"""Bytes of `.lat` files beside 16-bit PCM, whatever they hold: a file's size follows from its length."""

from __future__ import annotations

import common

from lincae_formats import LatReader

CASES = ((1 / common.SAMPLE_RATE, 1), (10.0, 1), (240.0, 1), (240.0, 2), (3600.0, 1))  # s, channels
WAV_HEADER = 44  # bytes


def main() -> None:
    """Measures and writes sizes.json."""
    a = common.parser(__doc__).parse_args()
    rows = []
    with common.scratch() as (folder, _):
        for i, (seconds, channels) in enumerate(CASES[:3] if a.quick else CASES):
            path = folder / f"{i}.lat"
            common.random_lat(path, seconds, a.model, channels=channels)
            with LatReader(path) as reader:
                header = reader.header
            latents = 2 * header.channels * header.latent_dim * header.frames
            wav, lat = WAV_HEADER + 2 * channels * header.num_samples, path.stat().st_size
            rows.append(
                {
                    "seconds": seconds,
                    "channels": channels,
                    "frames": header.frames,
                    "wav_bytes": wav,
                    "lat_bytes": lat,
                    "overhead_bytes": lat - latents,
                    "times_smaller": round(wav / lat, 2),
                    "kbit_per_s_and_channel": round(8e-3 * lat / seconds / channels, 2) if seconds >= 1 else None,
                }
            )
    common.save("sizes", {"rows": rows}, a.results, a.model)


if __name__ == "__main__":
    main()
