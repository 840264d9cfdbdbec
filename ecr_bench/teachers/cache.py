"""Embeddings on disk, by teacher and request, so that nothing is embedded twice by the same teacher.

The last bits of a vector depend on the texts that are embedded beside it: a batch of another size takes another path
through the matrix products. So a vector is kept under its text *and* the part of a request that it was embedded in,
and a part of which anything is missing is embedded again as a whole. What a request gives then depends on the request
alone, and not on what was embedded before it, by which process, or where one was killed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from array import array
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ecr_bench.errors import UserError
from ecr_bench.io import cache_dir, disk_errors, fingerprint, read_json, write_json
from ecr_bench.source_code import code_of
from ecr_bench.teachers.base import Progress, Teacher

log = logging.getLogger(__name__)
FORMAT = 3
"""Of the files of a folder. 1: without checksums of the vectors; 2: by text alone."""
DIGEST, CHECKSUM = 32, 4
ENTRY = DIGEST + CHECKSUM
SAME = 10
"""Different texts that no teacher gives one vector for."""
CHUNK = 2048
"""Texts embedded between two writes: what a kill can lose, and what one vector can depend on."""


class EmbeddingStore:
    """One folder: ``vectors.f32`` (rows, dim) little-endian, ``index`` (rows, 36) and ``teacher.json``.

    An entry of the index is a key (see ``_parts``) and the CRC-32 of its vector, little-endian. Both files only grow;
    the last row of a key counts. Vectors are flushed to disk before their entries, and a row exists once its entry is
    complete: whatever a kill leaves behind is overwritten by the next writer. Writers hold ``lock``; readers need none.
    """

    def __init__(self, folder: Path, dim: int):
        self.folder, self.dim = folder, dim
        self.vectors, self.index = folder / "vectors.f32", folder / "index"
        self.rows: dict[bytes, int] = {}
        self.checksums = array("I")
        self.count = 0
        self.memory = np.empty((0, dim), dtype=np.float32)

    @property
    def lock(self) -> FileLock:
        return FileLock(self.folder / "lock")

    def prepare(self, teacher: Teacher) -> None:
        """Make the folder, or check that it is this teacher's. Call with the lock held."""
        path = self.folder / "teacher.json"
        if not path.exists():
            write_json(path, {"name": teacher.name, "fingerprint": teacher.fingerprint, "dim": self.dim})
        elif read_json(path).get("dim") != self.dim:
            raise UserError(f"{path}: written for another dimension than {self.dim}; delete the folder {self.folder}")

    def refresh(self) -> None:
        """Take in the rows that this or another process has added."""
        for path in (self.vectors, self.index):
            if path.is_dir():
                raise UserError(f"{path}: is a folder, no file of this cache; delete {self.folder}")
        size = self.index.stat().st_size // ENTRY if self.index.exists() else 0
        whole = self.vectors.stat().st_size // (4 * self.dim) if self.vectors.exists() else 0
        size = min(size, whole)  # fewer vectors than entries: the file was cut, and the rest is written again
        if size < self.count:  # the folder was deleted under us
            self.rows, self.checksums, self.count = {}, array("I"), 0
        if size > self.count:
            with self.index.open("rb") as handle:
                handle.seek(self.count * ENTRY)
                raw = handle.read((size - self.count) * ENTRY)
            for row, offset in enumerate(range(0, len(raw), ENTRY), self.count):
                self.rows[raw[offset : offset + DIGEST]] = row
                self.checksums.append(int.from_bytes(raw[offset + DIGEST : offset + ENTRY], "little"))
            self.count = size
        if len(self.memory) != self.count:
            self.memory = np.empty((0, self.dim), dtype=np.float32)
            if self.count:
                self.memory = np.memmap(self.vectors, dtype="<f4", mode="r", shape=(self.count, self.dim))

    def lacking(self, keys: Collection[bytes]) -> list[bytes]:
        """Those without a vector, after a look at what others have added.

        One that is not what was written is said, and forgotten: the next row of its key counts.
        """
        self.refresh()
        held = [key for key in keys if key in self.rows]
        damaged = [key for key in held if _checksum(self.memory[self.rows[key]]) != self._written(key)]
        for key in damaged:
            del self.rows[key]
        if damaged:
            log.warning(f"{self.vectors}: {len(damaged):,} vectors are not what was written; embedded again")
        return [key for key in keys if key not in self.rows]

    def _written(self, key: bytes) -> int:
        return self.checksums[self.rows[key]]

    def append(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Add rows. Call with the lock held and after ``refresh``."""
        raw = np.ascontiguousarray(vectors, dtype="<f4")
        entries = (key + _checksum(row).to_bytes(CHECKSUM, "little") for key, row in zip(keys, raw, strict=True))
        with disk_errors(self.folder):
            _write_at(self.vectors, self.count * self.dim * 4, raw.tobytes())
            _write_at(self.index, self.count * ENTRY, b"".join(entries))
        self.refresh()


def _checksum(vector: np.ndarray) -> int:
    return zlib.crc32(vector.tobytes())


def _write_at(path: Path, offset: int, data: bytes) -> None:
    """Write ``data`` at ``offset``, dropping what a killed writer left after it, and flush to disk."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "r+b") as handle:
        handle.truncate(offset)
        handle.seek(offset)
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


_stores: dict[tuple[Path, int], EmbeddingStore] = {}


def cache_key(teacher: Teacher) -> str:
    """The teacher's fingerprint, and a hash of what else decides its vectors: its code, the packages this imports, and
    the class of the device and the number of threads where it computes with torch."""
    code = code_of([type(teacher).__module__])
    made: dict[str, Any] = {"format": FORMAT, "code": sorted(code.files.values()), "packages": dict(code.packages)}
    if "torch" in code.packages:
        import torch

        from ecr_bench.device import device

        made |= {"device": device(), "threads": torch.get_num_threads()}
    return f"{teacher.fingerprint}-{fingerprint(made)}"


class StoredVectors:
    """Vectors of N texts where the cache has them: on disk, mapped into memory, read as far as they are asked for."""

    def __init__(self, store: EmbeddingStore, keys: Sequence[bytes]):
        self._memory = store.memory
        self._rows = np.fromiter((store.rows[key] for key in keys), dtype=np.int64, count=len(keys))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """(n, dim) float32, copied."""
        return np.asarray(self._memory[self._rows[index]], dtype=np.float32)

    @property
    def all_equal(self) -> bool:
        """Whether all N are one and the same vector."""
        first = self[:1]
        return all((self[at : at + CHUNK] == first).all() for at in range(0, len(self), CHUNK))


def embed_cached(
    teacher: Teacher, texts: Sequence[str], root: Path | None = None, on_progress: Progress | None = None
) -> np.ndarray:
    """``embed_on_disk``, all of it in memory: (N, teacher.dim) float32."""
    return embed_on_disk(teacher, texts, root, on_progress)[:]


def embed_on_disk(
    teacher: Teacher, texts: Sequence[str], root: Path | None = None, on_progress: Progress | None = None
) -> StoredVectors:
    """Embed ``texts``, each distinct text once, and the same texts in the same order once ever.

    Args:
        teacher: see ``teachers.registry.create``.
        texts: N texts.
        root: cache root; by default ``io.cache_dir()``. Vectors lie under ``embeddings/<what cache_key gives>``.
        on_progress: called with the number of texts done so far, cached ones included; ends at N.

    Raises:
        UserError: the cache cannot be written, or the teacher gives a vector that is not finite or has another
            dimension, or one vector for all texts.
    """
    folder = (root or cache_dir()) / "embeddings" / cache_key(teacher)
    store = _stores.setdefault((folder.absolute(), teacher.dim), EmbeddingStore(folder.absolute(), teacher.dim))
    parts = _parts(texts)
    keys = {text: key for part in parts for key, text in part.items()}
    if store.lacking(keys.values()):
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # one writer at a time: a second process waits here and then finds the work done
            with store.lock:
                store.prepare(teacher)
                _fill(teacher, store, parts, len(texts), on_progress)
    if on_progress is not None:
        on_progress(len(texts))
    vectors = StoredVectors(store, [keys[text] for text in texts])
    if len(keys) >= SAME and vectors.all_equal:
        raise UserError(f"teacher {teacher.name!r} gives one and the same vector for {len(keys):,} different texts")
    return vectors


def _parts(texts: Sequence[str]) -> list[dict[bytes, str]]:
    """The distinct ``texts`` in order, in parts that are embedded at once: key -> text.

    A key is the SHA-256 of a text's own and of those of its whole part.
    """
    distinct = list(dict.fromkeys(texts))
    return [_part(distinct[start : start + CHUNK]) for start in range(0, len(distinct), CHUNK)]


def _part(texts: Sequence[str]) -> dict[bytes, str]:
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    beside = hashlib.sha256(b"".join(digests)).digest()
    return {hashlib.sha256(beside + digest).digest(): text for digest, text in zip(digests, texts, strict=True)}


def _fill(
    teacher: Teacher,
    store: EmbeddingStore,
    parts: Sequence[dict[bytes, str]],
    total: int,
    on_progress: Progress | None,
) -> None:
    """Embed the ``parts`` that are not there as a whole, writing each; progress counts towards ``total``."""
    missing = [part for part in parts if store.lacking(part)]
    before = total - sum(map(len, missing))
    for part in missing:
        progress = None if on_progress is None else partial(_shifted, on_progress, before)
        store.append(list(part), _embedded(teacher, list(part.values()), progress))
        before += len(part)


def _embedded(teacher: Teacher, texts: Sequence[str], on_progress: Progress | None) -> np.ndarray:
    """(N, dim) float32. UserError for what is no such thing, or not finite."""
    given = teacher.embed(texts, on_progress)
    try:
        vectors = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"teacher {teacher.name!r} gives {type(given).__name__}, not an array: {error}") from error
    if vectors.shape != (expected := (len(texts), teacher.dim)):
        raise UserError(f"teacher {teacher.name!r} gives vectors of the shape {vectors.shape}, not {expected}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        text = texts[int(bad[0])]
        raise UserError(f"teacher {teacher.name!r} gives a vector that is not finite for the text {text!r:.80}")
    return vectors


def _shifted(on_progress: Progress, before: int, done: int) -> None:
    on_progress(before + done)
