"""The command line. Each command is one typed function; jsonargparse makes the options from it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from ecr_bench.arguments import FOR_ALL, check_characters, command_parser
from ecr_bench.bitext.commands import bitext
from ecr_bench.browse.commands import items
from ecr_bench.bundle.commands import gguf
from ecr_bench.clean_command import clean
from ecr_bench.errors import UserError, of_the_system, unknown
from ecr_bench.formats import percent, size
from ecr_bench.interrupts import exit_code, handled, kill_all, line_of
from ecr_bench.leaderboard.commands import COMMANDS as LEADERBOARD
from ecr_bench.listing_commands import corpora, data, methods, models, runs, schema, show, tasks, teachers
from ecr_bench.names import run_folder
from ecr_bench.plan_command import plan
from ecr_bench.quiet import lossless_streams
from ecr_bench.table import Table, print_table
from ecr_bench.time_command import time
from ecr_bench.verbosity import Verbosity, speaking, verbosity


def run(
    experiment: str,
    out: Path = Path("runs"),
    set: list[str] | None = None,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    store: str | None = None,
    max_disk: str | None = None,
    plugin: list[str] | None = None,
) -> None:
    """Train and score every cell of an experiment and print the leaderboard.

    Args:
        experiment: a name from baselines/ (quick) or a YAML file.
        out: folder for results; finished stages in it are reused.
        set: overrides, e.g. --set finetune.steps=100 (write it again for more).
        workers: stages side by side; default one per core, or per GPU.
        engine: where stages run: local, ray or submitit (docs/scale.md).
        address: of the engine's cluster, for ray such as 10.0.0.1:6379; default one of its own.
        store: URL that machines share stages by, such as s3://bucket/folder; --out then holds copies.
        max_disk: size that the store in --out may have (20G); what no run uses is deleted before it would have more.
        plugin: Python file that registers methods, teachers, corpora or tasks.
    """
    from ecr_bench.config import load, parse_set
    from ecr_bench.plugins import load_plugins

    plugins = tuple(plugin or ())
    load_plugins(plugins)
    config = load(experiment).with_overrides(parse_set(set or []))
    from ecr_bench.engines.registry import Wanted, engine_of
    from ecr_bench.publish import Execution, run_and_publish
    from ecr_bench.runner.clean import bytes_of
    from ecr_bench.runner.remote import remote_of

    most, there = bytes_of(max_disk, "--max-disk"), engine_of(engine, Wanted(workers, address, plugins))
    run_and_publish(config, Execution(out, Console(), there, most, remote_of(store), experiment))


def board(
    experiment: str = "quick",
    out: Path = Path("runs"),
    format: str = "terminal",
    cell: str | None = None,
    to: Path | None = None,
) -> None:
    """Print the leaderboard of a finished run again, or export it.

    Args:
        experiment: name of the run, or the path of its folder, such as results/long.
        out: the folder given to run.
        format: terminal, markdown, csv, parquet or model-index (Hugging Face model-card metadata of a cell).
        cell: for model-index, a cell (ecr-1x-s0) or an arm (ecr-1x, the mean over its seeds).
        to: file to write instead of printing.
    """
    from ecr_bench.report.export import export_board
    from ecr_bench.report.page import FILE
    from ecr_bench.report.terminal import print_run
    from ecr_bench.run import Run

    folder = run_folder(experiment, out)
    found, console = Run.load(folder), Console()
    if format != "terminal":
        return export_board(found, format, cell, to)
    print_run(found, console, folder / FILE)


def claims(experiment: str = "quick", out: Path = Path("runs"), claims: Path | None = None) -> None:
    """Judge claims on a finished run again and write claims.json, board.md and the page.

    Args:
        experiment: name of the run, or the path of its folder, such as results/long.
        out: the folder given to run.
        claims: YAML file with claims of your own (default: the paper's, baselines/claims.yaml).
    """
    from ecr_bench.publish import judge_again
    from ecr_bench.report.terminal import print_claims

    print_claims(judge_again(run_folder(experiment, out), claims), Console())


def compare(a: str, b: str) -> None:
    """Compare two arms or cells item by item: FOLDER:ARM, e.g. runs/quick:ecr-1x or runs/quick:ecr-1x-s0:int8.

    Args:
        a: run folder, arm or cell, and optionally a precision; or the folder of an evaluation (eval --out).
        b: the same; another folder may be named. Items that only one of them scored are left out.
    """
    from ecr_bench.publish import compare_references

    print_table(compare_references(a, b), Console())


def ablate(
    experiment: str,
    out: Path = Path("runs"),
    set: list[str] | None = None,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    store: str | None = None,
    max_disk: str | None = None,
    plugin: list[str] | None = None,
) -> None:
    """Vary one setting: run an ablation and write its table and plots.

    Args:
        experiment: a name from baselines/ (absent, or ablation-absent) or a YAML file with an axis.
        out: folder for results; stages shared with other runs in it are reused.
        set: overrides, e.g. --set finetune.steps=100 (write it again for more).
        workers: stages side by side; default one per core, or per GPU.
        engine: where stages run: local, ray or submitit (docs/scale.md).
        address: of the engine's cluster, for ray such as 10.0.0.1:6379; default one of its own.
        store: URL that machines share stages by, such as s3://bucket/folder; --out then holds copies.
        max_disk: size that the store in --out may have (20G); what no run uses is deleted before it would have more.
        plugin: Python file that registers methods, teachers, corpora or tasks.
    """
    from ecr_bench.config import parse_set
    from ecr_bench.plugins import load_plugins
    from ecr_bench.runner.ablation import load_ablation

    plugins = tuple(plugin or ())
    load_plugins(plugins)
    ablation = load_ablation(experiment, parse_set(set or []))
    from ecr_bench.engines.registry import Wanted, engine_of
    from ecr_bench.publish import Execution, ablate_and_publish
    from ecr_bench.runner.clean import bytes_of
    from ecr_bench.runner.remote import remote_of

    most, there = bytes_of(max_disk, "--max-disk"), engine_of(engine, Wanted(workers, address, plugins))
    ablate_and_publish(ablation, Execution(out, Console(), there, most, remote_of(store), experiment))


def verify(experiment: str = "quick", out: Path = Path("runs")) -> None:
    """Compute every number of a published run again from its per-item records.

    Args:
        experiment: name of the run, or the path of its folder, such as results/long.
        out: the folder given to run, or results for the published ones.
    """
    from ecr_bench.verify import verify as check

    for line in check(run_folder(experiment, out)):
        print(line)


def report(experiment: str = "quick", out: Path = Path("runs"), plugin: list[str] | None = None) -> None:
    """Write the HTML page of a finished run again and print its path.

    Args:
        experiment: name of the run, or the path of its folder, such as results/long.
        out: the folder given to run.
        plugin: Python file that registered methods of this run.
    """
    from ecr_bench.plugins import load_plugins
    from ecr_bench.publish import draw_again

    load_plugins(tuple(plugin or ()))
    print(draw_again(run_folder(experiment, out)))


def evaluate(
    model: Path,
    tasks: list[str],
    data_dir: Path | None = None,
    precision: str = "fp32",
    limit: int | None = None,
    num_fewshot: int = 0,
    out: Path | None = None,
    no_ecr: bool = False,
    max_length: int | None = None,
    skip_long: bool = False,
    seen: list[str] | None = None,
    plugin: list[str] | None = None,
) -> None:
    """Score a saved model on public benchmarks and print accuracy by language (docs/public-tasks.md).

    Args:
        model: folder with config.json, weights and tokenizer, or package:NAME (ecr-bench models); with a conditioner/
            in it control tokens are used.
        tasks: xnli, xcopa, xstorycloze, xwinograd, pawsx, belebele, sib200, multiblimp, global_mmlu; or one language of
            one, such as xcopa_it.
        data_dir: read DIR/TASK/LANGUAGE/SPLIT.jsonl instead of the hub.
        precision: fp32, bf16, int8 or nf4.
        limit: only the first documents of each task and language.
        num_fewshot: solved examples in front of every item, the first ones of the training or validation split.
        out: folder for records.parquet and eval.json; default is one in runs/eval.
        no_ecr: leave out control tokens and score exactly as lm-eval's hf does.
        max_length: window in tokens, at most what the model reads (default).
        skip_long: leave out items that the window cannot hold, with and without control tokens and in every precision,
            and say how many; otherwise their task fails.
        seen: languages that had labelled training rows; records call all others unseen.
        plugin: Python file that registers more tasks.
    """
    from ecr_bench.plugins import load_plugins
    from ecr_bench.quiet import quiet_libraries

    quiet_libraries()
    load_plugins(tuple(plugin or ()))
    from ecr_bench.results.public import run_evaluation
    from ecr_bench.runner.public import Evaluation

    asked = Evaluation(
        model, tuple(tasks), data_dir, precision, limit, not no_ecr, tuple(seen or ()), max_length, skip_long,
        shots=num_fewshot,
    )  # fmt: skip
    run_evaluation(asked, out, Console())


def tensorboard(experiment: str = "quick", out: Path = Path("runs"), port: int = 6006) -> None:
    """Open TensorBoard on all cells of a finished run.

    Args:
        experiment: name of the run, or the path of its folder, such as results/long.
        out: the folder given to run.
        port: port to listen on.
    """
    import subprocess

    if not 0 <= port < 2**16:
        raise UserError(f"--port {port}: must be 0 to {2**16 - 1}")
    folder = run_folder(experiment, out) / "tensorboard"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: it is written where the run is made, ecr-bench run NAME")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    raise SystemExit(subprocess.call(command))


def export(cell: str, folder: Path, run: str = "quick", out: Path = Path("runs"), precision: str | None = None) -> None:
    """Write a trained cell to a folder that runs alone, without teacher and network.

    Args:
        cell: label of a cell, e.g. ecr-1x-s0 (an unknown one lists all).
        folder: where the bundle goes; it appears whole or not at all.
        run: name of the finished run, or the path of its folder.
        out: the folder given to run, whose store has the model.
        precision: one of those the cell was scored at; default the first.
    """
    from ecr_bench.bundle.export import export as write_bundle
    from ecr_bench.evaluation.scorers import disk_bytes
    from ecr_bench.quiet import quiet_libraries

    quiet_libraries()
    meta = write_bundle(out, run, cell, folder, precision)
    print(f"{meta.cell} at {meta.precision}: {folder}, {size(disk_bytes(folder))}")


def generate(folder: Path, text: str, tokens: int = 40) -> None:
    """Continue a text with a bundle; prints size, peak memory and time to the first token.

    Args:
        folder: a bundle written by export.
        text: the prompt; its control tokens look at all of it.
        tokens: new tokens at most.
    """
    from ecr_bench.bundle.use import generate as continue_text
    from ecr_bench.bundle.use import open_bundle
    from ecr_bench.quiet import quiet_libraries

    quiet_libraries()
    bundle = open_bundle(folder)
    found = continue_text(bundle, text, tokens)
    print(found.text if found.text.strip() else "[the model ended at once: it holds the text to be complete]")
    speed = f"first token after {found.first_token_ms:.1f} ms, then {found.tokens_per_second:.1f} tokens/s"
    print(f"[{size(bundle.bytes)} on disk, peak memory {size(found.peak_memory)}, {speed}]", file=sys.stderr)


def score(folder: Path, task: str, items: Path | None = None, records: Path | None = None) -> None:
    """Score a bundle on tasks and print the accuracy of each.

    Args:
        folder: a bundle written by export.
        task: a task (label), one language of it (ecr_label_de) or all.
        items: folder of items, e.g. runs/store/items/KEY/test.
        records: write per-item records to this Parquet file.
    """
    from ecr_bench.bundle.use import open_bundle
    from ecr_bench.bundle.use import score as score_bundle
    from ecr_bench.memory import peak_memory
    from ecr_bench.quiet import quiet_libraries

    quiet_libraries()
    bundle = open_bundle(folder)
    found = score_bundle(bundle, task, items, records)
    groups = found.groupby("task_name")
    lines = ((str(name), str(len(mine)), percent(mine["correct"].mean())) for name, mine in groups)
    print_table(Table.of("", ("task", "items", "accuracy"), lines), Console())
    print(f"[{size(bundle.bytes)} on disk, peak memory {size(peak_memory())}]", file=sys.stderr)


def completion(shell: str) -> None:
    """Print a script that lets a shell complete commands and options.

    Args:
        shell: bash, zsh or fish; e.g. for bash: source <(ecr-bench completion bash)
    """
    import shtab

    if shell not in shtab.SUPPORTED_SHELLS:
        raise unknown("shell", shell, shtab.SUPPORTED_SHELLS)
    print(command_parser(COMMANDS).get_completion_script(f"shtab-{shell}"))


def doctor() -> None:
    """Print versions, cores, memory and what would stop a run on this machine."""
    from ecr_bench.runner.doctor import examine

    show("check", examine().items())


COMMANDS: dict[str, Callable[..., None]] = {
    "run": run, "plan": plan, "eval": evaluate, "ablate": ablate, "board": board, "claims": claims, "compare": compare,
    "verify": verify, "report": report, "export": export, "generate": generate, "score": score, "methods": methods,
    "teachers": teachers, "models": models, "data": data, "tensorboard": tensorboard, "doctor": doctor, "time": time,
    "items": items, "bitext": bitext, "corpora": corpora, "tasks": tasks, "runs": runs, "schema": schema,
    "clean": clean, "completion": completion, "gguf": gguf, **LEADERBOARD,
}  # fmt: skip


def _call(command: str, options: dict[str, Any]) -> None:
    """With ``-v`` an error says where it was raised, before its line."""
    try:
        COMMANDS[command](**options)
    except Exception:
        if verbosity() is Verbosity.VERBOSE:
            traceback.print_exc()
        raise


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exit code 2 and one line for bad input, 3 for a published file that was changed, for cells of a run
    and for tasks of an evaluation that failed, 130 for Ctrl-C, 143 for SIGTERM.
    """
    lossless_streams()
    with handled(kill_all) as asked:
        try:
            check_characters(sys.argv[1:] if arguments is None else arguments)
            chosen = command_parser(COMMANDS).parse_args(arguments)
            options = chosen[chosen.command].as_dict()
            with speaking(*(options.pop(name) for name in FOR_ALL)):
                _call(chosen.command, options)
        except (Exception, KeyboardInterrupt) as error:
            _end(asked[0] if asked else error)


def _end(error: Exception | KeyboardInterrupt) -> NoReturn:
    """One line and the exit code for what ended a command; an error of our own is raised again."""
    if isinstance(error, KeyboardInterrupt):
        print(line_of(error), file=sys.stderr)
        raise SystemExit(exit_code(error)) from None
    if not isinstance(error, UserError):
        from ecr_bench.plugins import blame

        if (blamed := blame(error) or of_the_system(error)) is None:
            raise error
        error = blamed
    print(f"ecr-bench: error: {error}", file=sys.stderr)
    raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
