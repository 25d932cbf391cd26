"""Inputs and outputs the right way round."""

from .errors import usage_error
from .inputs import STDIO

AUDIO = (".wav", ".flac", ".ogg", ".mp3")
LAT = (".lat",)


def split_output(operands: list[str], output: str | None) -> tuple[list[str], str | None]:
    """Operands and output, where `IN -` says the same as `IN -o -`: to stdout."""
    if output is None and len(operands) == 2 and operands[1] == STDIO:
        return operands[:1], STDIO
    return operands, output


def check_direction(operands: list[str], output: str | None, *, decoding: bool) -> None:
    """Answers `encode x.lat` and `decode x.wav` with the other command, and `encode x.wav x.lat` with `-o`.

    Raises:
        UsageError: an input has the extension of outputs, or the output that of inputs.
    """
    mine, other = (LAT, AUDIO) if decoding else (AUDIO, LAT)
    command, back = ("decode", "encode") if decoding else ("encode", "decode")
    wrong = [name for name in operands if name.lower().endswith(other)]
    if wrong:
        kind = "an audio file" if decoding else "a .lat file"
        if output is None and len(operands) == 2 and wrong == operands[1:]:
            raise usage_error(f"{wrong[0]} is {kind}", f"did you mean: lincae {command} {operands[0]} -o {wrong[0]}")
        raise usage_error(f"{wrong[0]} is already {kind}", f"did you mean: lincae {back} {wrong[0]}")
    if output is not None and output.lower().endswith(mine):
        right = other[0]
        raise usage_error(f"-o {output} has the wrong extension", f"write -o {output.rpartition('.')[0]}{right}")
