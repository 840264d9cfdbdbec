"""The command ``items`` as a typed function, from which the command line makes its options."""

from __future__ import annotations

from pathlib import Path

from ecr_bench.names import run_folder


def items(experiment: str = "quick", out: Path = Path("runs")) -> None:
    """Write a page of single answers of a finished run: text, options, scores, control tokens and what they stand for.

    Args:
        experiment: name of the run, or the path of its folder, such as results/long.
        out: the folder given to run; its store must still hold the sentences, which are never published.
    """
    from ecr_bench.browse.pages import write_items_page
    from ecr_bench.quiet import quiet_libraries
    from ecr_bench.run import Run

    quiet_libraries()
    folder = run_folder(experiment, out)
    print(write_items_page(Run.load(folder), out, folder))
