"""Published runs on the Hugging Face hub, as data sets: one folder of a repository is one run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.formats import size
from ecr_bench.io import atomic_dir
from ecr_bench.names import run_name
from ecr_bench.results.files import RUN, read_manifest
from ecr_bench.verify import verify

KIND = "dataset"
PULLED = ".pulled"
"""Folder of what the hub sent, of which only what is published and sound is kept."""


def push(folder: Path, repository: str, dry_run: bool) -> list[str]:
    """Verify a run and upload its published files to ``repository/NAME``, in one commit; says what was sent.

    ``dry_run``: say it and send nothing; needs no network. UserError where the hub refuses.
    """
    lines = verify(folder)
    manifest = read_manifest(folder)
    names = manifest.published
    held = sum((folder / name).stat().st_size for name in names)
    where = f"{repository}/{manifest.name}"
    if dry_run:
        return [*lines, *names, f"would send {len(names)} files, {size(held)}, to {where}"]
    from huggingface_hub import HfApi

    def send(api: Any) -> None:
        api.create_repo(repository, repo_type=KIND, exist_ok=True)
        api.upload_folder(
            repo_id=repository, repo_type=KIND, folder_path=str(folder), path_in_repo=manifest.name,
            allow_patterns=names, commit_message=f"ecr-bench run {manifest.name}",
        )  # fmt: skip

    _asked(lambda: send(HfApi()), where)
    return [*lines, f"sent {len(names)} files, {size(held)}, to {where}"]


def pull(repository: str, name: str, to: Path, revision: str | None = None) -> list[str]:
    """Fetch the run ``name`` of ``repository`` to ``to/NAME`` and verify it; nothing is kept of a bad one."""
    from huggingface_hub import snapshot_download

    try:
        run_name(name)
    except ValueError as error:
        raise UserError(f"{name!r:.60}: {error}") from None
    folder = to / name
    if folder.exists():
        raise UserError(f"{folder}: is there already")
    with atomic_dir(folder) as place:
        pulled = place / PULLED
        _asked(
            lambda: snapshot_download(
                repository, repo_type=KIND, revision=revision, allow_patterns=[f"{name}/*"], local_dir=str(pulled)
            ),
            f"{repository}/{name}",
        )
        fetched = pulled / name
        if not (fetched / RUN).is_file():
            raise UserError(f"{repository}: holds no run {name!r}")
        lines = verify(fetched)
        for published in read_manifest(fetched).published:
            (fetched / published).replace(place / published)
        shutil.rmtree(pulled)
    return [*lines, f"fetched to {folder}"]


def _asked(ask: Any, where: str) -> None:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        ask()
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        raise UserError(f"{where}: {' '.join(str(error).split()):.200}") from error
