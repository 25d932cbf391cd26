"""Runs `lincae demo` and puts its output into README.md between the demo's marks.

python bench/readme.py --lincae .venv/bin/lincae
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lincae", default="lincae")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [*shlex.split(a.lincae), "demo", "-o", "lincae-demo"]
        command[0] = str(Path(command[0]).absolute()) if "/" in command[0] else command[0]
        output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    block = f"What `make demo` printed on two CPU cores:\n\n```\n{output.rstrip()}\n```\n"
    text = README.read_text(encoding="utf-8")
    text = re.sub(r"(<!-- demo:begin.*?-->\n).*?(<!-- demo:end -->)", lambda m: m[1] + block + m[2], text, flags=re.S)
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
