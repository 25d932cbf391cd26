"""The old name of `messages`."""

from .messages import *  # noqa: F403
from .messages import FAILURE, USAGE, exit_code, failure, is_closed_pipe, say, show, usage_error  # noqa: F401
