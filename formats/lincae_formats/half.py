from .stored import *  # noqa: F403
