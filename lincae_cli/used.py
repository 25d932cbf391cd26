"""The old name of `inputs`."""

from .inputs import ModelCache as Models  # noqa: F401
