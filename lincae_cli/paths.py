"""The old name of `outputs`."""

from .inputs import STDIO, nearest, open_source  # noqa: F401
from .outputs import Job, check_targets, make_folder, open_target, plan  # noqa: F401
