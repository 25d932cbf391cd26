from .signal import Meter, decibels  # noqa: F401
