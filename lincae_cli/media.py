"""The old name of `inputs`."""

from .inputs import decoded, is_lat, open_audio  # noqa: F401
