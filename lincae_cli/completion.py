"""What shells complete after an option: the values its metavar lists, or the models there are; else file names."""

from typing import Any

from typer.core import CompletionItem

_PLACEHOLDERS = frozenset({"NAME", "PATH", "...", "LAT", "AUDIO"})


def complete(param: Any, incomplete: str) -> list[CompletionItem]:
    """The values of `param` that begin as `incomplete` does; none where the shell should offer files."""
    values = _values(param) if param.param_type_name == "option" else []
    return [CompletionItem(value) for value in values if value.lower().startswith(incomplete.lower())]


def _values(param: Any) -> list[str]:
    choices = (param.metavar or "").split("|")
    if choices[0] == "NAME":
        return _models()
    if param.metavar == "json" or len(choices) > 1:
        return [choice for choice in choices if choice not in _PLACEHOLDERS]
    return []


def _models() -> list[str]:
    from lincae_core.models.registry import available
    from lincae_formats.errors import LincaeError

    try:
        return [info.name for info in available()]
    except LincaeError:
        return []
