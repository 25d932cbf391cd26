from .algebra import *  # noqa: F403
from .algebra import check_compatible, check_gain, result_header  # noqa: F401
