"""The ``clean`` command as a typed function, from which the command line makes its options."""

from __future__ import annotations

from pathlib import Path


def clean(out: Path = Path("runs"), free: bool = False, caches: bool = False) -> None:
    """Show what no run uses: stages, damaged ones, checkpoints, caches; and delete it if asked to.

    Args:
        out: the folder given to run. A run uses its stages as long as its folder is there.
        free: delete what is shown of the store.
        caches: delete this user's caches as well; the next run computes them again.
    """
    import os

    from rich.console import Console

    from ecr_bench.errors import UserError
    from ecr_bench.formats import size
    from ecr_bench.runner import clean as cleaning
    from ecr_bench.runner.store import Store
    from ecr_bench.table import Table, print_table

    if caches and not free:
        raise UserError("--caches: says what else to delete; give --free as well")
    there = next((path for path in (out, *out.parents) if os.path.lexists(path)), Path())
    if not there.is_dir():  # a file, or a link that leads nowhere
        raise UserError(f"--out {out}: {there} is not a folder")
    store = Store(out)
    found, cached = cleaning.remains(store), cleaning.caches()
    shown = [*found, *cached]
    lines = [(one.what, size(one.bytes)) for one in shown]
    console = Console()
    if lines:
        print_table(Table.of("", ("what no run uses", "size"), lines, words=1), console)
    if older := store.unnoted():
        names = ", ".join(older)
        console.print(f"stages are not listed: {names} of an older version may use them; run it again, or delete it")
    wanted = [*found, *(cached if caches else [])] if free else []
    freed = cleaning.free(store, wanted)
    held = cleaning.size_of(store.path(""))
    said = f"freed {size(freed)}; " if free else ""
    console.print(f"{said}{store.path('')} holds {size(held)}", highlight=False, soft_wrap=True)
