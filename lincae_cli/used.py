"""The models that a run of the command line uses, each loaded once, when the first file needs it."""

import threading
from typing import TYPE_CHECKING, Any

from .errors import failure

if TYPE_CHECKING:
    from lincae_formats import Header


class Models:
    """Models by name or by file.

    Args:
        device: auto, cpu, cuda.
    """

    def __init__(self, device: str) -> None:
        """Loads nothing yet."""
        self._device = device
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def info(self, name: str | None) -> Any:
        """What the model of that name or path says of itself; the default without one."""
        from lincae_core.models.registry import DEFAULT_MODEL, resolve

        return resolve(name or DEFAULT_MODEL)

    def matching(self, header: "Header", file: str, name: str | None) -> Any:
        """The facts of the model that encoded a file: an installed one, or the one named.

        Raises:
            LincaeError: it is not at hand, or the one named did not encode the file.
        """
        from lincae_core.models.registry import find_fingerprint

        if name is None:
            return find_fingerprint(header.model_fingerprint, header.model, file)
        info = self.info(name)
        if info.fingerprint != header.model_fingerprint:
            raise failure(
                f"{file} was encoded by another model ({header.model}) than {name}",
                "leave out --model, or give the model's file",
            )
        return info

    def load(self, info: Any) -> Any:
        """The model itself."""
        from lincae_core.models.registry import load, remember

        with self._lock:
            key = str(info.path)
            if key not in self._loaded:
                self._loaded[key] = load(info, device=self._device)
                remember(info)
            return self._loaded[key]
