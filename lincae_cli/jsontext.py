"""JSON for scripts that does no harm to a terminal."""

import json
from typing import Any


def dumps(value: Any) -> str:
    """Indented JSON in plain letters; what a terminal would obey or cannot show is escaped, as JSON allows."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)
