"""Download of published weights through huggingface_hub, which resumes and caches."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lincae_core.models.store import KWARGS, PUBLISHED, ModelInfo, check_target, ships, user_models
from lincae_formats.errors import LincaeError, TargetExistsError, UsageError
from lincae_formats.files import atomic_path


def pull(name: str, *, force: bool = False) -> ModelInfo | Path:
    """Gets published weights and makes them one of the user's models.

    What was downloaded before is not downloaded again, and when a connection breaks, the download goes on where it
    stopped. Every file is checked against the hash that the hub gave.

    Args:
        name: a key of `PUBLISHED`.
        force: replace the model if it is here already.

    Returns:
        The model; for `stable-audio-vae`, which is diffusers' business, its folder.

    Raises:
        UsageError: unknown name.
        TargetExistsError: it is here already.
        LincaeError: huggingface_hub is not installed, no network, a damaged file, or a checkpoint of another shape.
    """
    if name not in PUBLISHED:
        if ships(name):
            raise UsageError(f"{name} ships with lincae: there is nothing to pull", f"see lincae models show {name}")
        near = get_close_matches(name, PUBLISHED, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(PUBLISHED)}"
        raise UsageError(f"no published model {name!r}", hint)
    if PUBLISHED[name].scale is None:
        return _pull_folder(name, force)
    check_target(name, force)
    published = PUBLISHED[name]
    paths = [_download(name, file) for file in published.files]
    from lincae_core.models.convert import Origin, config_from_kwargs, install, read_kwargs, read_state
    from lincae_core.models.unet import UnetConfig

    scale = published.scale or 1.0
    if len(paths) > 1:
        kwargs = read_kwargs(dict(zip(KWARGS, paths[1:], strict=True)))
        config = config_from_kwargs(kwargs, scale, f"{name}: its settings on the hub")
    else:
        config = UnetConfig(latent_scale=scale)
    revision = paths[0].parts[paths[0].parts.index("snapshots") + 1][:8] if "snapshots" in paths[0].parts else "1"
    origin = Origin(f"https://huggingface.co/{published.repo} ({published.files[0]})", revision, published.license)
    return install(read_state(paths[0]), config, name, origin, force=force)


def _pull_folder(name: str, force: bool) -> Path:
    folder = user_models() / name
    if folder.exists() and not force and all((folder / Path(f).name).exists() for f in PUBLISHED[name].files):
        raise TargetExistsError(f"{name} is installed already ({folder})", "add --force to replace it")
    paths = {Path(file).name: _download(name, file) for file in PUBLISHED[name].files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, path in paths.items():
            with atomic_path(folder / file, overwrite=True) as temporary:
                shutil.copyfile(path, temporary)
    except OSError as e:
        raise LincaeError(f"{folder}: cannot write there ({e.strerror})", "set LINCAE_MODELS") from None
    return folder


def _download(name: str, file: str) -> Path:
    """One file of a published model, from the cache or the hub, checked.

    Raises:
        LincaeError: it cannot be had, or what came is damaged.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        import huggingface_hub
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
    except ImportError:
        raise LincaeError("models pull needs the package huggingface_hub", "pip install 'lincae[hub]'") from None
    huggingface_hub.logging.set_verbosity_error()  # it tells of every retry; one line at the end is ours
    repo = PUBLISHED[name].repo
    try:
        # asked once, without the download's retries, which take half a minute to find out that no one is there
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repo, file))
        path = Path(huggingface_hub.hf_hub_download(repo, file))
    except GatedRepoError:
        hint = f"accept its terms at https://huggingface.co/{repo}, then: hf auth login"
        raise LincaeError(f"{name}: gated repository: accept its terms and log in", hint) from None
    except RepositoryNotFoundError:
        raise LincaeError(
            f"{name}: the hub has no repository {repo}, or it is private", "if it is gated: hf auth login"
        ) from None
    except HfHubHTTPError as e:
        status = getattr(getattr(e, "response", None), "status_code", None)
        if status == 404:
            hint = f"upgrade lincae, or: lincae models import FILE --as unet --name {name}"
            raise LincaeError(f"{name}: {repo} on the hub has no {file}", hint) from None
        raise LincaeError(f"{name}: the hub refused {file} (status {status or '?'})", "try again later") from None
    except Exception as e:  # whatever breaks a connection
        if not _is_unreachable(e):
            reason = " ".join(str(e).split())[:120] or type(e).__name__
            raise LincaeError(f"{name}: {file} could not be downloaded ({reason})", "try again") from None
        kept = huggingface_hub.try_to_load_from_cache(repo, file)
        if not isinstance(kept, str):
            hint = f"check the network and try again, or: lincae models import FILE --as unet --name {name}"
            raise LincaeError(f"{name}: cannot reach the hub", hint) from None
        path = Path(kept)
    _check(name, path)
    return path


def _is_unreachable(error: Exception) -> bool:
    """Whether no one answered; the class depends on the HTTP library that huggingface_hub uses."""
    names = {c.__name__ for c in type(error).__mro__}
    return bool(names & {"TransportError", "ConnectionError", "LocalEntryNotFoundError"})


def _check(name: str, path: Path) -> None:
    """Checks a file against its name in the cache, which is the hash that the hub gave; a damaged one is deleted.

    Raises:
        LincaeError: the bytes are others.
    """
    blob = path.resolve()
    checks: dict[int, Callable[[bytes], Any]] = {
        64: lambda _: hashlib.sha256(),
        40: lambda size: hashlib.sha1(b"blob " + size + b"\0", usedforsecurity=False),  # as git does
    }
    wanted = blob.name
    if len(wanted) not in checks or set(wanted) - set("0123456789abcdef"):
        return  # a cache without links keeps no hash
    digest = checks[len(wanted)](str(blob.stat().st_size).encode())
    with open(blob, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != wanted:
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise LincaeError(f"{name}: {path.name} was damaged during the download and has been deleted", "try again")
