"""HTML pages that need nothing beside them: Jinja2 templates with audio and pictures as data URLs."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lincae_formats.files import atomic_path

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def write_page(template: str, path: Path, **values: Any) -> None:
    """Renders a template to a file, which is replaced if it exists. All text is escaped.

    Args:
        template: a file of `TEMPLATES`.
        path: the page.
        **values: what the template names.
    """
    text = _environment().get_template(template).render(**values)
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def data_url(kind: str, data: bytes) -> str:
    """Bytes of a media type (`audio/ogg`, `image/png`) as a URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
