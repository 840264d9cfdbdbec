"""Reading pretrained weights and tokenizers by hub id or folder, with one clear line when that fails.

A name on the hub stands for whatever its branch holds at the time, so it is resolved to a commit before it is read.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ecr_bench.content import folder_of
from ecr_bench.errors import UserError
from ecr_bench.weight_files import CONVERT, SUFFIX, check_weights, read_whole

Kind = Literal["model", "dataset"]
COMMIT = re.compile(r"[0-9a-f]{40}")
SECONDS = 10
"""To wait for the hub."""


def read_model(kind: Any, source: str, who: str, revision: str = "", **options: Any) -> Any:
    """``read_pretrained`` for weights: of safetensors alone, whether ``source`` is a folder or on the hub, and all of
    them."""
    if folder := folder_of(source):
        check_weights(folder)
    read = partial(read_whole, kind, who=f"{who}: {source}")
    return _read(read, source, who, revision, use_safetensors=True, **options)


def read_pretrained(kind: Any, source: str, who: str, revision: str = "", **options: Any) -> Any:
    """``kind.from_pretrained(source, **options)``, of a folder or at the commit that ``revision`` is; UserError names
    ``who``, the source and the remedy."""
    read = partial(kind.from_pretrained, trust_remote_code=False)
    return _read(read, source, who, revision, **options)


def _read(read: Callable[..., Any], source: str, who: str, revision: str, **options: Any) -> Any:
    folder = folder_of(source)
    if folder is None:
        options["revision"] = commit_of(source, revision, who=who)
    try:
        return read(str(folder or source), **options)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # transformers, tokenizers and safetensors each raise their own kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        if folder is not None:
            raise UserError(
                f"{who}: cannot read {source}: {reason:.160}; it must be a transformers folder with config.json, "
                "a tokenizer and model.safetensors"
            ) from error
        if SUFFIX in reason or "safetensors" in reason:
            raise UserError(f"{who}: {source!r} has no {SUFFIX} weights, and others are not read; {CONVERT}") from error
        raise _unreachable(who, source, reason, "model") from error


def commit_of(name: str, revision: str = "", kind: Kind = "model", who: str = "") -> str:
    """The commit, 40 hex digits, that a branch or tag of ``name`` on the hub is at; that of ``main`` for none.

    Asked of the hub, once in a process, or of the local cache where the hub is not to be reached. UserError that says
    what to do where neither knows it.
    """
    if COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import constants

    wanted = revision or "main"
    found = None if constants.HF_HUB_OFFLINE else _ask(name, wanted, kind)
    if found := found or _cached(name, wanted, kind):
        return found
    label = who or f"{kind} {name!r}"
    if refs := _refs(name, kind):
        raise UserError(f"{label}: {name!r} has no revision {wanted!r} in the local cache: it has {', '.join(refs)}")
    raise _unreachable(label, name, "", kind)


@functools.cache
def _ask(name: str, revision: str, kind: Kind) -> str | None:
    """What the hub says; None where it does not answer."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=SECONDS).sha
    except HFValidationError:
        return None
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise _unreachable(f"{kind} {name!r}", name, "gated repo", kind) from error
        return None
    except OSError:
        return None
    except Exception as error:  # the client's own kinds for a network that is not there
        if type(error).__module__.partition(".")[0] in ("httpx", "httpcore", "requests", "urllib3"):
            return None
        raise


def snapshot(name: str, commit: str, kind: Kind) -> Path | None:
    """Folder of ``commit`` in the local cache, if it is there."""
    folder = _folder(name, kind) / "snapshots" / commit
    return folder if folder.is_dir() else None


def _folder(name: str, kind: Kind) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / "--".join([f"{kind}s", *name.split("/")])


def _cached(name: str, revision: str, kind: Kind) -> str | None:
    path = _folder(name, kind) / "refs" / revision
    if not path.is_file():
        return None
    commit = path.read_text(encoding="utf-8").strip()
    return commit if COMMIT.fullmatch(commit) else None


def _refs(name: str, kind: Kind) -> list[str]:
    """Branches and tags in the local cache, and commits no branch is at."""
    refs, snapshots = _folder(name, kind) / "refs", _folder(name, kind) / "snapshots"
    named = {path.relative_to(refs).as_posix() for path in refs.rglob("*") if path.is_file()}
    return sorted(named | {path.name for path in snapshots.glob("*")})


def _unreachable(who: str, source: str, reason: str, kind: Kind) -> UserError:
    if "gated repo" in reason or "403" in reason:
        page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{source}"
        return UserError(f"{who}: {source!r} is gated: accept its licence at {page}, then run 'hf auth login'")
    option = " --repo-type dataset" if kind == "dataset" else ""
    return UserError(
        f"{who}: {source!r} is neither a folder here nor reachable on the hub; run 'hf download {source}{option}' "
        "where there is a network, or give the path of a folder"
    )
