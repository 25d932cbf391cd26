"""The models that are at hand: those that ship, those that were pulled or imported, and files that the user names."""

from __future__ import annotations

import difflib
import json
import os
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lincae_formats.atomic import atomic_path
from lincae_formats.errors import LincaeError, TargetExistsError

if TYPE_CHECKING:
    from lincae_core.models.autoencoder import Autoencoder

DEFAULT_MODEL = "frame"
SHIPPED = Path(__file__).parent.parent / "weights"
PULLABLE = ("lin-cae", "lin-cae-2", "m2l", "music2latent", "stable-audio-vae")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MAX_HEADER = 16 << 20  # bytes


@dataclass(frozen=True)
class ModelInfo:
    """What a weights file says of itself.

    Args:
        name: name of the model.
        version: version of the weights.
        path: the weights file.
        fingerprint: `sha256:<hex>` over weights and config.
        family: network family.
        config: fields of the family's config.
        license: SPDX name of the weights' licence.
        card_path: model card (Markdown) beside the weights.
        parameters: number of parameters.
        size_bytes: size of the file.
    """

    name: str
    version: str
    path: Path
    fingerprint: str
    family: str
    config: dict[str, Any]
    license: str
    card_path: Path | None
    parameters: int
    size_bytes: int


def read_info(path: Path) -> ModelInfo:
    """Reads a weights file's metadata, not its weights.

    Raises:
        LincaeError: the file cannot be read or is no lincae weights file.
    """
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_HEADER:
                raise ValueError
            info = json.loads(json.loads(file.read(length))["__metadata__"]["lincae"])
        config = dict(info["config"])
        family = str(config["family"])
        card = path.with_suffix(".md")
        return ModelInfo(
            name=str(info["name"]), version=str(info["version"]), path=path, fingerprint=str(info["fingerprint"]),
            family=family, config=config, license=str(info["license"]), card_path=card if card.exists() else None,
            parameters=int(info["parameters"]), size_bytes=path.stat().st_size,
        )  # fmt: skip
    except OSError as e:
        raise LincaeError(f"{path}: cannot read the weights ({e.strerror})", "see lincae models list") from None
    except (ValueError, KeyError, TypeError, struct.error):
        raise LincaeError(f"{path}: not a lincae weights file", "see lincae models list") from None


def user_models() -> Path:
    """Folder of the models that were pulled or imported.

    ``$LINCAE_MODELS``, else ``lincae/models`` under ``$XDG_DATA_HOME`` or ``~/.local/share``.
    """
    if chosen := os.environ.get("LINCAE_MODELS"):
        return Path(chosen)
    root = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(root) / "lincae" / "models"


def shipped() -> list[ModelInfo]:
    """The models that come with the package, by name."""
    return by_version([read_info(p) for p in sorted(SHIPPED.glob("*.safetensors"))])


def ships(name: str) -> bool:
    """Whether a model that comes with the package answers to a name, with its version or without."""
    return any(name in (m.name, f"{m.name}-{m.version}") for m in shipped())


def check_target(name: str, force: bool) -> Path:
    """The file that a model of this name would become.

    Raises:
        LincaeError: no name for a model, or it is taken.
    """
    if not _NAME.fullmatch(name):
        raise LincaeError(f"{name!r} cannot be a model's name", "lower-case letters, digits, . _ -: --name my-model")
    if ships(name):
        raise LincaeError(f"{name} is the name of a model that ships", "choose another: --name my-model")
    target = user_models() / f"{name}.safetensors"
    if target.exists() and not force:
        raise TargetExistsError(f"{name} is here already ({target})", "add --force to replace it")
    return target


def available() -> list[ModelInfo]:
    """The models that ship, then the user's, by name; a name that ships cannot be taken by another."""
    found = shipped()
    names = {m.name for m in found}
    try:
        own = sorted(user_models().glob("*.safetensors"))
    except OSError:
        own = []  # a folder that may not be read must not take the shipped ones down
    for path in own:
        try:
            info = read_info(path)
        except LincaeError:
            continue  # a file of others in this folder must not take the rest down
        if info.name not in names:
            found.append(info)
            names.add(info.name)
    return found


def by_version(models: list[ModelInfo]) -> list[ModelInfo]:
    """The same models, sorted; of those of one name the newest keeps it, the others are called `<name>-<version>`."""
    ordered = sorted(models, key=lambda m: (m.name, [-int(n) for n in re.findall(r"\d+", m.version)]))
    newest = {m.name: m for m in reversed(ordered)}
    return [m if m is newest[m.name] else replace(m, name=f"{m.name}-{m.version}") for m in ordered]


def resolve(name_or_path: str | Path) -> ModelInfo:
    """A model by name, or by the path of a weights file.

    Raises:
        LincaeError: there is no such model.
    """
    text = os.fspath(name_or_path)
    shipped_or_own = available()
    models = {f"{m.name}-{m.version}": m for m in shipped_or_own} | {m.name: m for m in shipped_or_own}
    if text in models:
        return models[text]
    if Path(text).is_file():
        return read_info(Path(text))
    if text in PULLABLE:
        raise LincaeError(f"no model {text!r} here yet", f"get it: lincae models pull {text}")
    near = difflib.get_close_matches(text, [*models, *PULLABLE], 1)
    guess = f"did you mean --model {near[0]}?" if near else "see lincae models list"
    raise LincaeError(f"no model {text!r}", guess)


def find_fingerprint(fingerprint: str, name: str, file: str) -> ModelInfo:
    """The model a `.lat` file was made with: one that ships, or a weights file that was used here before.

    Args:
        fingerprint: of the weights.
        name: of the model, for messages.
        file: the `.lat` file, for messages.

    Raises:
        LincaeError: none is at hand.
    """
    for model in available():
        if model.fingerprint == fingerprint:
            return model
    try:
        known = Path(_memory(fingerprint).read_text(encoding="utf-8"))
        info = read_info(known)
        if info.fingerprint == fingerprint:
            return info
    except (OSError, LincaeError, ValueError):
        pass
    raise LincaeError(
        f"{file}: its model {name!r} ({fingerprint[:15]}...) is not at hand",
        "name its weights file: --model PATH",
    )


def remember(info: ModelInfo) -> None:
    """Notes where a user's weights file lies, so that decode finds it by fingerprint; does nothing if it cannot."""
    if info.path.parent in (SHIPPED, user_models()):
        return
    note = _memory(info.fingerprint)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(note, overwrite=True) as temporary:
            Path(temporary).write_text(str(info.path.resolve()), encoding="utf-8")
    except (OSError, LincaeError):
        pass


def _memory(fingerprint: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "lincae" / "models" / fingerprint.replace(":", "-")


def load(name_or_path: str | Path | ModelInfo = DEFAULT_MODEL, device: str = "auto") -> Autoencoder:
    """Loads a model.

    Args:
        name_or_path: name of a model that ships, a weights file, or what `resolve` gave.
        device: auto, cpu or cuda.

    Raises:
        LincaeError: no such model, a damaged file, or no such device.
    """
    from lincae_core.models.autoencoder import Autoencoder
    from lincae_core.models.device import choose_device
    from lincae_core.models.weights import load_weights

    info = name_or_path if isinstance(name_or_path, ModelInfo) else resolve(name_or_path)
    where = choose_device(device)
    model, metadata = load_weights(info.path)
    return Autoencoder(model, {**metadata, "name": info.name}, where)
