"""One of the processes that train a cell together; torchrun starts ``python -m ecr_bench.stages.process START``."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
import traceback
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecr_bench.parents import killed_with_parent

if TYPE_CHECKING:
    from ecr_bench.stages.processes import Start
    from ecr_bench.stages.work import Report


def main(path: Path) -> int:
    """Do what ``stages.processes.on_devices`` asks for; the exit code is 1 where it failed."""
    killed_with_parent()
    start: Start = pickle.loads(path.read_bytes())
    with Client(start.address, authkey=start.key) as connection:
        threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
        return _work(start, connection)


def _work(start: Start, connection: Connection) -> int:
    from ecr_bench.errors import UserError
    from ecr_bench.stages.processes import Raised, Reached, Result

    first = os.environ["RANK"] == "0"

    def report(done: int, total: int) -> None:
        if first:
            connection.send(Reached(done, total))

    try:
        value = _resume(start, report)
    except Exception as error:
        users = isinstance(error, UserError)
        reason = str(error) if users else f"{type(error).__name__}: {error}"
        connection.send(Raised(reason, "".join(traceback.format_exception(error)), users))
        return 1
    if first:
        connection.send(Result(value))
    return 0


def _resume(start: Start, report: Report) -> Any:
    """The result of the first; None for the others, which end when training does."""
    import torch

    from ecr_bench.plugins import load_plugins, load_source
    from ecr_bench.quiet import quiet_libraries
    from ecr_bench.stages.fitting import OthersDone
    from ecr_bench.stages.processes import Call, become_one

    load_plugins()
    for plugin in start.plugins:
        load_source(plugin)
    torch.set_num_threads(start.threads)
    quiet_libraries()
    become_one()
    call: Call = pickle.loads(start.call)
    try:
        return call.work.resume(call.settings, call.inputs, call.folder, report, call.kept)
    except OthersDone:
        return None
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _end_with(connection: Connection) -> None:
    """End this process when the one that waits for its work has closed the connection, as it does when it dies."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os._exit(1)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
