"""A stage whose processes write their number and sleep."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ecr_bench.section import Section
from ecr_bench.stages.processes import on_devices
from ecr_bench.stages.work import Work


class Sleepers(Work[Section, None, Section]):
    kind = "sleepers"

    @classmethod
    def resume(cls, settings, inputs, folder, report, kept=None):
        (folder / str(os.getpid())).touch()
        time.sleep(300)


def start(folder: str) -> None:
    on_devices(Sleepers, 2, None, None, Path(folder), lambda *_: None, None)
