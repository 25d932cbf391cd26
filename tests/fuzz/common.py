"""What the three programs share: atheris with the parsers instrumented, and the limits on each input."""

import sys
from collections.abc import Callable
from pathlib import Path

import atheris

LIMITS = ["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=1"]


def fuzz(
    one: Callable[[bytes], None],
    seeds: dict[str, bytes],
    max_len: int,
    mutate: Callable[[bytes, int, int], bytes] | None = None,
) -> None:
    """Runs libFuzzer on `one` until it fails or its time is up.

    Args:
        one: Takes the bytes of an input; whatever it raises is a finding.
        seeds: The beginning of the corpus, put into the folder that the command line names first.
        max_len: Bytes in an input, at most.
        mutate: Makes an input from another one; libFuzzer's own way by default.
    """
    if len(sys.argv) < 2:
        raise SystemExit("name a folder for the corpus first; see tests/fuzz/README.md")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (folder / name).write_bytes(data)
    options = {} if mutate is None else {"custom_mutator": mutate}
    atheris.Setup([sys.argv[0], str(folder), f"-max_len={max_len}", *LIMITS, *sys.argv[2:]], one, **options)
    atheris.Fuzz()


def one_line(error: Exception) -> None:
    """Checks that an error is one line."""
    if "\n" in str(error):
        raise AssertionError(repr(str(error)))
