"""The commands of a leaderboard as typed functions, from which the command line makes their options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ecr_bench.names import run_folder


def merge(runs: list[str], out: Path = Path("leaderboard"), apart: bool = False, name: str | None = None) -> None:
    """Make one leaderboard of runs of several people, seeds and machines; each is verified first.

    Args:
        runs: folders of finished runs, or archives written by submit.
        out: a new folder for the leaderboard.
        apart: keep the arms of each run apart instead of pooling those of one name over seeds.
        name: of the board, where all runs answered the same items; default that of their corpus.
    """
    from ecr_bench.leaderboard.merge import merge as merge_runs

    for line in merge_runs([Path(run) for run in runs], out, apart, name):
        print(line)
    print(f"{out}: index.html, leaderboard.md")


def submit(experiment: str, to: Path | None = None, out: Path = Path("runs")) -> None:
    """Verify a finished run and write it to one archive that others can merge.

    Args:
        experiment: name of the run, or the path of its folder, such as results/long.
        to: the archive (default: NAME.zip here).
        out: the folder given to run.
    """
    from ecr_bench.leaderboard.archive import submit as write_archive

    folder = run_folder(experiment, out)
    for line in write_archive(folder, to or Path(f"{folder.resolve().name}.zip")):
        print(line)


def push(experiment: str, repository: str, out: Path = Path("runs"), dry_run: bool = False) -> None:
    """Verify a finished run and upload it to a data set on the Hugging Face hub.

    Args:
        experiment: name of the run, or the path of its folder, such as results/long.
        repository: owner/name of the data set; made if it is not there.
        out: the folder given to run.
        dry_run: say what would be sent; needs no network.
    """
    from ecr_bench.leaderboard.hub import push as send

    for line in send(run_folder(experiment, out), repository, dry_run):
        print(line)


def pull(repository: str, name: str, to: Path = Path("runs"), revision: str | None = None) -> None:
    """Fetch a run from a data set on the Hugging Face hub and verify it.

    Args:
        repository: owner/name of the data set.
        name: the run.
        to: the run is put into a folder of its name in this one.
        revision: branch, tag or commit.
    """
    from ecr_bench.leaderboard.hub import pull as fetch

    for line in fetch(repository, name, to, revision):
        print(line)


COMMANDS: dict[str, Callable[..., None]] = {"merge": merge, "submit": submit, "push": push, "pull": pull}
