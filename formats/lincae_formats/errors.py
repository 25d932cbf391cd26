"""Named errors. Each is one line: what is wrong, with which file, and what to type next."""


class LincaeError(Exception):
    """Base of the errors that are shown to the user.

    Args:
        message: What is wrong, naming the file.
        hint: What to type or do next.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = one_line(message)
        self.hint = one_line(hint) if hint else None
        super().__init__(f"{self.message}; {self.hint}" if self.hint else self.message)


class UsageError(LincaeError):
    """The command itself is wrong; the shell exits with 2."""


class LatError(LincaeError):
    """Base of everything that can be wrong with a `.lat` file or with arithmetic on its contents."""


class NotHDF5Error(LatError):
    """The bytes do not begin with the HDF5 signature."""


class TruncatedError(LatError):
    """The file is shorter than its own header says."""


class WrongFormatError(LatError):
    """An HDF5 file whose `format` attribute is missing or is not `lincae-lat`."""


class UnsupportedVersionError(LatError):
    """A major version of the format that this reader does not know."""


class ChecksumError(LatError):
    """Stored bytes do not match their checksum."""


class ShapeError(LatError):
    """A shape is out of range or contradicts the header."""


class DTypeError(LatError):
    """A dataset has another type than the format allows, or a storage type is unknown."""


class NonFiniteError(LatError):
    """NaN or infinity where a number is needed."""


class HeaderError(LatError):
    """An attribute, the history or a tag is missing, of the wrong type or out of range."""


class LayoutError(LatError):
    """Storage that the format forbids: links, external or virtual data, other filters, other chunks."""


class IncompatibleError(LatError):
    """Latents that cannot be combined: other model, rate, channels or groups."""


class OverflowFloat16Error(LatError):
    """A number beyond 65504, the largest float16."""


class TargetExistsError(LincaeError):
    """The target exists and overwriting was not asked for."""


def one_line(text: str) -> str:
    """Escapes line breaks and control characters, so that a hostile file name cannot forge output."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
