"""What ``GOMP_SPINCOUNT=0`` does: two torch threads, libgomp's default against none, idle and with a busy neighbour.

The work is forward and backward of a transformer layer on few rows: many short parallel regions, as in training a
small model. The neighbour is a process that keeps one core busy; "idle" holds as far as the load average beside it
says so. Each setting has a worker process of its own, since libgomp reads it once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.harness import Options, Result, compared, interleaved, milliseconds, ratios

WORKER = """
import sys, time, torch
torch.set_num_threads(2)
layer = torch.nn.TransformerEncoderLayer(128, 4, 344, batch_first=True)
rows = torch.randn(16, 24, 128)
for line in sys.stdin:
    for _ in range(int(line)):
        layer(rows).sum().backward()
    print("done", flush=True)
"""
NEIGHBOUR = "while True: pass"


class Worker:
    """A process that does the work when told to."""

    def __init__(self, spin: str | None) -> None:
        names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
        environment = {name: value for name, value in os.environ.items() if name not in names}
        environment |= {} if spin is None else {"GOMP_SPINCOUNT": spin}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def work(self, steps: int) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        if not self.process.stdout.readline():
            raise RuntimeError("a worker process died")


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def run(options: Options) -> Iterator[Result]:
    steps = options.pick(300, 5)
    with ExitStack() as stack:
        workers = {"default": Worker(None), "no spinning": Worker("0")}
        for worker in workers.values():
            stack.enter_context(ending(worker.process))
        for where in ("idle", "busy neighbour"):
            if where != "idle":
                busy = subprocess.Popen([sys.executable, "-c", NEIGHBOUR], text=True)
                stack.enter_context(ending(busy))
            times = interleaved(
                {name: lambda worker=worker: worker.work(steps) for name, worker in workers.items()},  # type: ignore[misc]
                options.pick(5, 1),
            )
            yield compared(
                f"two threads, {where}: GOMP_SPINCOUNT unset over 0",
                "libgomp's default",
                ratios(times, "default", "no spinning"),
                beside={**milliseconds(times, steps), "load": round(os.getloadavg()[0], 2)},
            )
