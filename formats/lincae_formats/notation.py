from .text import *  # noqa: F403
from .text import clock, decibels, factor, from_decibels, gain, is_gain, offset, points, seconds  # noqa: F401
