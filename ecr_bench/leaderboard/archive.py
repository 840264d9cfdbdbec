"""``ecr-bench submit``: a run as one file that anybody can check and merge."""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecr_bench.errors import UserError
from ecr_bench.formats import size
from ecr_bench.io import atomic_path, check_folder, disk_errors
from ecr_bench.names import file_inside, repeated
from ecr_bench.results.files import read_manifest
from ecr_bench.scratch import scratch
from ecr_bench.verify import verify

LARGEST = 2 << 30
"""Bytes that an archive may hold unpacked."""
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, RuntimeError, ValueError
)  # fmt: skip
"""What zipfile raises for a member that is damaged, encrypted or packed in a way that it does not know."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every file in an archive: the same run gives the same bytes."""


def submit(folder: Path, to: Path) -> list[str]:
    """Verify a run and write its published files to the archive ``to``; says what was checked and written."""
    check_folder(to.parent, "--to")
    lines = verify(folder)
    names = read_manifest(folder).published
    with atomic_path(to) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(names):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return [*lines, f"{to}: {len(names)} files, {size(to.stat().st_size)}"]


@contextmanager
def opened(source: Path) -> Iterator[Path]:
    """The folder of a run; an archive is unpacked into one that is gone afterwards.

    UserError for what is neither, and for an archive that holds anything but plain files at its top: it comes from a
    stranger.
    """
    if source.is_dir():
        yield source
        return
    try:
        archive = zipfile.ZipFile(source)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{source}: neither the folder of a run nor an archive of ecr-bench submit") from error
    with archive, scratch() as folder:
        with disk_errors(folder):
            _unpack(archive, folder, source)
        yield folder


def _unpack(archive: zipfile.ZipFile, folder: Path, source: Path) -> None:
    members = archive.infolist()
    if sum(member.file_size for member in members) > LARGEST:
        raise UserError(f"{source}: more than {LARGEST >> 30} GiB unpacked: no run is as large")
    if twice := repeated(member.filename for member in members):
        raise UserError(f"{source}: {twice!r:.80} is there twice")
    for member in members:
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG) or not _plain_name(member.filename):
            raise UserError(f"{source}: {member.filename!r:.80} is no plain file at the top of the archive")
        try:
            content = archive.read(member)
        except UNREADABLE as error:
            reason = " ".join(str(error).split()) or "it ends too early"
            raise UserError(f"{source}: {member.filename!r:.80} cannot be unpacked: {reason:.120}") from None
        (folder / member.filename).write_bytes(content)


def _plain_name(name: str) -> bool:
    try:
        return "/" not in name and file_inside(Path(), name).name == name
    except ValueError:
        return False
