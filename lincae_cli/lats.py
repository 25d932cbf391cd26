"""From `.lat` to `.lat`: what is refused before the work, operands that are opened, results that are written."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from . import errors, paths
from .errors import usage_error
from .operands import AUDIO

if TYPE_CHECKING:
    from lincae_formats.pool import Pooled
    from lincae_formats.signal import Signal
    from lincae_formats.timeline import Position

_SPARE = 64  # descriptors left for everything else


def check_output(names: Sequence[str], output: str | None, force: bool, command: str) -> str:
    """The target, once everything that can be refused without reading is known to be right.

    Raises:
        UsageError: no output, one that is no `.lat` file, or one that is an input; stdin twice.
        TargetExistsError, LincaeError: it exists, or cannot be written.
    """
    output = check_name(output, command)
    if list(names).count(paths.STDIO) > 1:
        raise usage_error("stdin (-) can be read only once", "name files for the other operands")
    paths.check_targets([output], names, force)
    paths.open_target(output)
    return output


def check_name(output: str | None, command: str) -> str:
    """An output that is there and is not named like audio."""
    if output is None:
        raise usage_error(f"lincae {command}: there is no output", "add -o out.lat, or -o - for stdout")
    if output.lower().endswith(AUDIO):
        stem = output.rpartition(".")[0]
        raise usage_error(
            f"-o {output} is no .lat file", f"write -o {stem}.lat, then: lincae decode {stem}.lat -o {output}"
        )
    return output


@contextlib.contextmanager
def opened(names: Sequence[str]) -> Iterator["list[Pooled]"]:
    """The operands, opened and checked, in their order; a file named twice is one object and read once."""
    from lincae_formats.pool import Pool

    reuse_memory()
    sources = {name: paths.open_source(name, "a .lat file") for name in names}
    with Pool(allowed(len(sources))) as pool:
        files = {name: pool.open(source) for name, source in sources.items()}
        yield [files[name] for name in names]


def write(signal: "Signal", target: str, force: bool) -> None:
    """Writes a result in constant memory."""
    from lincae_formats import write_lat

    write_lat(signal, paths.open_target(target), overwrite=force)


def note_position(option: str, position: "Position") -> None:
    """Says where a time that lies between two frames was put."""
    if not position.exact:
        errors.say("note", rounded(option, position))


def rounded(option: str, position: "Position") -> str:
    """`--start 12.5 s lies between frames (93 ms); 12.539 s is used`."""
    return f"{option} {position.asked:.6g} s lies between two frames; {position.seconds:.3f} s is used"


def reuse_memory() -> None:
    """Lets freed memory be used again for the next file, where it would go back to the system and be asked for anew.

    The GNU C library keeps freed blocks of the size of the largest that was ever freed. This one is never touched.
    """
    import numpy as np

    np.empty(31 << 20, dtype=np.uint8)


def allowed(files: int) -> int:
    """How many files may be open at once; asks the system for as many as there are."""
    try:
        import resource
    except ImportError:
        return min(files, 256)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + _SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return files if soft == resource.RLIM_INFINITY else max(16, min(files, soft - _SPARE))
