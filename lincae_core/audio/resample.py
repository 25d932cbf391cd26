"""Resampling of streams, by soxr or on a GPU by torchaudio: exact lengths, no delay, the same whatever the blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import soxr

from lincae_formats.errors import LincaeError

if TYPE_CHECKING:
    import torch

_QUALITY = "VHQ"  # double precision inside: two ways to the same sample agree to float32 rounding
_REACH = 256  # samples at the lower of the two rates; measured to suffice for _QUALITY
_PIECE = 1 << 16  # samples given to soxr at once, which bounds the memory of one call
# A windowed sinc whose passband is soxr's: flat to 0.913 of half the lower rate, -6 dB between there and 1.
_SINC = {"resampling_method": "sinc_interp_kaiser", "lowpass_filter_width": 64, "rolloff": 0.957, "beta": 10.0}
_LARGEST_KERNEL = 1 << 24  # numbers; rates such as 44101 and 44100 Hz, which meet once a second, are left to soxr


def resampled_length(n: int, in_rate: int, out_rate: int) -> int:
    """Samples at `out_rate` that cover n samples at `in_rate`: ceil(n * out_rate / in_rate), exactly."""
    return -(-n * out_rate // in_rate)


class ResampleContext(NamedTuple):
    """What an excerpt needs around it so that resampling it agrees with resampling the whole.

    Attributes:
        samples: Input samples of context wanted on each side.
        in_grid: The excerpt starts at a multiple of this many input samples ...
        out_grid: ... where output sample `start // in_grid * out_grid` falls on input sample `start` exactly.
    """

    samples: int
    in_grid: int
    out_grid: int

    def span(self, start: int, stop: int) -> tuple[int, int, int]:
        """Input samples to resample for the output samples [start, stop) of the whole.

        Returns:
            (in_start, in_stop, skip): resample input [in_start, in_stop), cut off at the end of the whole,
            and take output [skip, skip + stop - start).
        """
        first = start * self.in_grid // self.out_grid
        in_start = max(0, first - self.samples) // self.in_grid * self.in_grid
        in_stop = -(-stop * self.in_grid // self.out_grid) + self.samples
        return in_start, in_stop, start - in_start // self.in_grid * self.out_grid


def resample_context(in_rate: int, out_rate: int) -> ResampleContext:
    """Context that makes the middle of a resampled excerpt equal (within 1e-5) to the whole resampled.

    The filter reaches about 256 samples of the lower rate to each side. The two rates meet every
    `in_rate / gcd` input samples: only an excerpt that starts there has its output samples at the same times
    as the whole's. With equal rates nothing is needed.
    """
    _check_rates(in_rate, out_rate)
    if in_rate == out_rate:
        return ResampleContext(0, 1, 1)
    common = math.gcd(in_rate, out_rate)
    samples = max(_REACH, -(-_REACH * in_rate // out_rate))
    return ResampleContext(samples, in_rate // common, out_rate // common)


class StreamResampler:
    """Resamples a signal given in blocks.

    Output sample k is at time k / out_rate exactly; in all there are `resampled_length` of them. Equal rates
    hand the blocks through.

    Args:
        in_rate: Hz.
        out_rate: Hz.
        channels: Channels of every block.

    Raises:
        LincaeError: rates that are not positive, or too far apart for soxr.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int) -> None:
        """Prepares the filter."""
        _check_rates(in_rate, out_rate)
        self.in_rate, self.out_rate, self.channels = int(in_rate), int(out_rate), channels
        self._received = self._returned = 0
        self._ended = False
        self._soxr: soxr.ResampleStream | None = None
        if in_rate != out_rate:
            try:
                self._soxr = soxr.ResampleStream(in_rate, out_rate, channels, dtype="float32", quality=_QUALITY)
            except (RuntimeError, ValueError) as e:
                raise LincaeError(
                    f"cannot resample {channels} channels from {in_rate} Hz to {out_rate} Hz ({e})",
                    "use rates that are closer",
                ) from e

    def process(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Takes float32 `[channels, n]`, n may be 0; returns the `[channels, m]` that are ready.

        With `last` it returns all the rest; call it no more after that.
        """
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"a block has shape {block.shape}, must be ({self.channels}, n)")
        if self._ended:
            raise ValueError("a block after the last one")
        self._ended = last
        self._received += block.shape[1]
        if self._soxr is None:
            return block
        data = np.ascontiguousarray(block.T, dtype=np.float32)
        outs = [self._soxr.resample_chunk(data[i : i + _PIECE], last=False) for i in range(0, len(data), _PIECE)]
        if last:
            outs.append(self._flush(sum(map(len, outs))))
        out = np.concatenate(outs) if outs else np.empty((0, self.channels), np.float32)
        self._returned += len(out)
        return np.ascontiguousarray(out.T)

    def _flush(self, pending: int) -> np.ndarray:
        # soxr rounds the total length to the nearest; zeros after the end bring out the sample it may lack.
        assert self._soxr is not None
        zeros = np.zeros((-(-self.in_rate // self.out_rate) + 1, self.channels), np.float32)
        out: np.ndarray = self._soxr.resample_chunk(zeros, last=True)
        missing = resampled_length(self._received, self.in_rate, self.out_rate) - self._returned - pending
        out = out[:missing]
        return np.pad(out, ((0, missing - len(out)), (0, 0)))


class DeviceResampler:
    """`StreamResampler` by torchaudio on a GPU: within 1e-3 of it below 0.9 of half the lower rate.

    Args:
        in_rate: Hz.
        out_rate: Hz.
        channels: Channels of every block.
        device: Where to compute.

    Raises:
        ImportError: torchaudio is not installed, or is one for another torch.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int, device: torch.device) -> None:
        """Prepares the filter."""
        from torchaudio.transforms import Resample

        self.in_rate, self.out_rate, self.channels = in_rate, out_rate, channels
        self._context, self._device = resample_context(in_rate, out_rate), device
        self._filter: Any = Resample(in_rate, out_rate, **_SINC).to(device)
        self._held = np.zeros((channels, 0), np.float32)  # from input sample `at` on
        self._at = self._received = self._returned = 0

    def process(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """As `StreamResampler.process`."""
        import torch

        self._held = np.concatenate([self._held, block], axis=1, dtype=np.float32)
        self._received += block.shape[1]
        context, start = self._context, self._returned
        ready = max(0, self._received - context.samples) // context.in_grid * context.out_grid
        stop = resampled_length(self._received, self.in_rate, self.out_rate) if last else max(ready, start)
        if stop == start:
            return np.zeros((self.channels, 0), np.float32)
        low, high, skip = context.span(start, stop)
        piece = np.ascontiguousarray(self._held[:, low - self._at : min(high, self._received) - self._at])
        with torch.inference_mode():
            out = self._filter(torch.from_numpy(piece).to(self._device))[:, skip : skip + stop - start].cpu().numpy()
        self._returned = stop
        following = min(context.span(stop, stop + 1)[0], self._received)
        self._held, self._at = self._held[:, following - self._at :], following
        return np.ascontiguousarray(out)


def stream_resampler(
    in_rate: int, out_rate: int, channels: int, device: torch.device | None = None
) -> StreamResampler | DeviceResampler:
    """A resampler for a stream: torchaudio's where the device is a GPU and it is installed (extra `gpu`), else soxr's.

    Raises:
        LincaeError: rates that are not positive, or too far apart for soxr.
    """
    if device is not None and device.type != "cpu" and in_rate != out_rate:
        context = resample_context(in_rate, out_rate)
        if context.out_grid * (context.in_grid + 2 * context.samples) <= _LARGEST_KERNEL:
            try:
                return DeviceResampler(in_rate, out_rate, channels, device)
            except (ImportError, OSError, RuntimeError):  # not installed, or made for another torch
                pass
    return StreamResampler(in_rate, out_rate, channels)


def _check_rates(in_rate: int, out_rate: int) -> None:
    if in_rate < 1 or out_rate < 1:
        raise LincaeError(f"cannot resample from {in_rate} Hz to {out_rate} Hz", "use sample rates of at least 1 Hz")
