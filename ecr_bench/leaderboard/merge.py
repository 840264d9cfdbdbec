"""``ecr-bench merge``: runs of several people, checked, as one leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path

from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir
from ecr_bench.leaderboard.archive import opened
from ecr_bench.leaderboard.index import write_index
from ecr_bench.leaderboard.items import hash_of
from ecr_bench.leaderboard.pool import FROM, Contribution, contribution, pooled
from ecr_bench.names import repeated, run_name
from ecr_bench.publish import draw
from ecr_bench.run import Run
from ecr_bench.verify import verify_run


def merge(sources: Sequence[Path], out: Path, apart: bool, name: str | None = None) -> list[str]:
    """Write a leaderboard of ``sources`` (run folders or archives of ``submit``) to ``out``; says what it holds.

    Every run is verified first. Runs that answered the same questions share a board, in a folder named after their
    corpus (a run that is alone keeps its name), or ``name`` where there is one board; arms of one name are pooled over
    seeds there, or kept apart.

    Raises:
        UserError: two runs of one name, an arm whose settings, corpus or teacher differ between runs that pool it, a
            run whose provenance cannot be read, or a ``name`` that cannot be given.
        DamagedError: a run whose numbers do not follow from its records.
    """
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f"--out {out}: is there already; a leaderboard is written to a new folder")
    with ExitStack() as stack:
        folders = {source: stack.enter_context(opened(source)) for source in sources}
        parts = _labelled([_checked(folders[source], source) for source in sources], apart)
        if (twice := repeated([name for part in parts for name in part.run.sources])) is not None:
            raise UserError(f"two runs are called {twice!r}: their experiments must have names of their own")
        groups = _named(name, list(_by_questions(parts)))
        boards = {called: pooled(called, items, chosen) for called, items, chosen in groups}
        with atomic_dir(out) as temporary:
            for name, board in boards.items():
                (temporary / name).mkdir()
                here = replace(board, folder=temporary / name)
                here.write_data(temporary / name)
                draw(here, temporary / name)
            write_index(temporary, boards)
    return list(_told(boards))


def _checked(folder: Path, source: Path) -> Run:
    """``source``: as the user called it, an archive perhaps, which is what a message names."""
    try:
        verify_run(run := Run.load(folder), folder)
        return run
    except UserError as error:
        error.args = UserError(str(error).replace(str(folder), str(source))).args
        raise


def _labelled(runs: Sequence[Run], apart: bool) -> list[Contribution]:
    """A board of several runs whose name is taken by another run, board or arm goes by the names of its runs."""
    names = [run.name for run in runs]
    names += [str(dict(arm.settings)[FROM]) for run in runs for arm in run.arms.values() if FROM in dict(arm.settings)]
    names += [name for run in runs for name in run.provenance.get("runs", ()) if name != run.name]
    return [
        contribution(
            run.name if names.count(run.name) == 1 else "+".join(run.provenance.get("runs", [run.name])), run, apart
        )
        for run in runs
    ]


Together = tuple[str, str, list[Contribution]]
"""Name of a board, hash of its items and the runs that have them."""


def _named(name: str | None, groups: list[Together]) -> list[Together]:
    """``groups`` with the ``name`` for the only one."""
    if name is None:
        return groups
    if len(groups) > 1:
        raise UserError(f"--name {name}: these runs answered {len(groups)} sets of items, which makes so many boards")
    try:
        return [(run_name(name), *groups[0][1:])]
    except ValueError as error:
        raise UserError(f"--name {name}: {error}") from None


def _by_questions(parts: Sequence[Contribution]) -> Iterator[Together]:
    """Runs by the items they answered. A board is called after their corpus, or after the one run that has them."""
    groups: dict[str, list[Contribution]] = {}
    for part in parts:
        groups.setdefault(hash_of(part.records), []).append(part)
    names = [group[0].run.name if len(group) == 1 else _corpus(group[0].run) for group in groups.values()]
    yield from zip(_apart(names), groups, groups.values(), strict=True)


def _apart(names: Sequence[str]) -> Iterator[str]:
    """``names``, with the first number behind those that were there before that makes them names of their own."""
    given: set[str] = set()
    for name in names:
        others = (f"{name}-{number}" for number in count(2))
        given.add(free := name if name not in given else next(one for one in others if one not in {*given, *names}))
        yield free


def _corpus(run: Run) -> str:
    """Names a folder, so what a stranger's run says is checked."""
    name = str((run.experiment.get("corpus") or {}).get("name", "corpus"))
    try:
        return run_name(name)
    except ValueError as error:
        raise UserError(f"{run.folder}: its corpus is called {name!r:.60}: {error}") from None


def _told(boards: dict[str, Run]) -> Iterator[str]:
    for name, board in boards.items():
        runs = board.provenance["runs"]
        cells = len({cell.cell for cell in board.cells})
        count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
        yield f"{name}: {cells} cells of {count} ({', '.join(runs)}): {board.board.verdict.answer}"
