"""Lists the modules of lincae whose functions run in one command: those that are opened to follow it.

    python tests/opened_modules.py gain a.lat --db -6 -o b.lat

Functions that only run while a module is imported (declarations of options, dataclasses) do not count, nor do error
classes and `__init__`s.
"""

import os
import sys
import threading
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = tuple(f"{ROOT / folder}{os.sep}" for folder in ("lincae_cli", "lincae_core", "formats/lincae_formats"))
LEFT_OUT = ("__init__.py", "__main__.py", "errors.py")


class Opened:
    """Notes the files whose functions run while it is installed by `install`."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def install(self) -> None:
        """Begins, in this thread and in those that are started later."""
        threading.setprofile(self._call)
        sys.setprofile(self._call)

    def modules(self) -> list[str]:
        """What was noted, as names of modules."""
        found = [Path(file).relative_to(ROOT) for file in self.files if not file.endswith(LEFT_OUT)]
        return sorted(".".join(path.with_suffix("").parts).removeprefix("formats.") for path in found)

    def _call(self, frame: FrameType, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        if event != "call" or file in self.files or not file.startswith(FOLDERS):
            return
        above: FrameType | None = frame
        while above is not None:
            if above.f_code.co_filename.startswith("<frozen importlib"):
                return
            above = above.f_back
        self.files.add(file)


if __name__ == "__main__":
    from lincae_cli.app import main

    opened = Opened()
    opened.install()
    code = main(sys.argv[1:])
    sys.setprofile(None)
    print(*opened.modules(), file=sys.stderr)
    sys.exit(code)
