from .storage import *  # noqa: F403
