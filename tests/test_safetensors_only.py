"""No weights are read from a pickle: every way in refuses one in a line that names the file, and opens none."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from ecr_bench.cli import main
from ecr_bench.config import TeacherConfig
from ecr_bench.ecr.projection_hidden import HiddenProjection
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.hub import read_model
from ecr_bench.methods.lora import ADAPTER
from ecr_bench.methods.pretrained import load_pretrained
from ecr_bench.methods.teacher_logits import load_teacher
from ecr_bench.precision import PRECISIONS
from ecr_bench.precision.adapted import load_adapted
from ecr_bench.precision.quantised import load_quantised
from ecr_bench.sizes import PretrainedSize
from ecr_bench.teachers.registry import create
from ecr_bench.weight_files import check_weights
from tests.methods.test_lora import train
from tests.test_architecture import FILES, PACKAGE

Open = Callable[[Path, PreTrainedTokenizerFast], Any]


class Trap:
    """A pickle that leaves a file where it was opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def set_trap(folder: Path, name: str, mark: Path) -> None:
    (folder / name).write_bytes(pickle.dumps(Trap(mark)))


@pytest.fixture
def pickled(tmp_path: Path, model: Any, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model folder as older programs saved it."""
    folder = tmp_path / "old"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "training_args.bin")
    set_trap(folder, "pytorch_model.bin", tmp_path / "opened")
    return folder


def _teacher(name: str, key: str) -> Open:
    return lambda folder, _: create(TeacherConfig(name=name, options={key: str(folder)})).embed(["a"])


def _projection(folder: Path, _: Any) -> Any:
    folder.rename(folder.parent / "encoder")
    return HiddenProjection.load(folder.parent, {"layer": 1, "layers": 2})


WAYS: dict[str, Open] = {
    **{name: (lambda folder, _, name=name: PRECISIONS.get(name)(folder, "cpu")) for name in PRECISIONS},
    "saved quantised": lambda folder, _: load_quantised(folder),
    "size": lambda folder, tokenizer: load_pretrained(PretrainedSize(model=str(folder), max_length=32), tokenizer),
    "teacher hf": _teacher("hf", "model"),
    "teacher checkpoint": _teacher("checkpoint", "path"),
    "distillation": lambda folder, tokenizer: load_teacher(folder, tokenizer, 16),
    "projection": _projection,
    "lm-eval": lambda folder, tokenizer: EcrLM(str(folder)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_refuses_a_pickle(
    way: str, pickled: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"pytorch_model\.bin: only \.safetensors weights are read.*convert") as caught:
        WAYS[way](pickled, tokenizer)
    assert "\n" not in str(caught.value) and not (tmp_path / "opened").exists()


def test_the_command_line_refuses_it_in_one_line(pickled: Path, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["eval", str(pickled), "xcopa", "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "pytorch_model.bin: only .safetensors" in error
    assert not (tmp_path / "opened").exists() and not (tmp_path / "out").exists()


def test_a_pickle_beside_safetensors_is_not_opened(pickled: Path, model: Any, tmp_path: Path) -> None:
    model.save_pretrained(pickled)
    PRECISIONS.get("fp32")(pickled, "cpu")
    assert not (tmp_path / "opened").exists()


def test_adapters_are_safetensors_too(
    model: Any, tokenizer: Any, sentences: Any, anchors_and_projection: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    train(("finetune", "nf4"), model, tokenizer, sentences, anchors_and_projection, folder)
    (folder / ADAPTER / "adapter_model.safetensors").unlink()
    set_trap(folder / ADAPTER, "adapter_model.bin", tmp_path / "opened")
    refused = r"adapter_model\.bin: only \.safetensors"
    with pytest.raises(UserError, match=refused):
        load_adapted(folder)
    with pytest.raises(UserError, match=refused):
        EcrLM(str(folder), peft=str(folder / ADAPTER))
    with pytest.raises(UserError, match="peft=nobody/nothing: no such folder"):
        EcrLM(str(folder), peft="nobody/nothing")
    # transformers itself would read an adapter that lies beside a model
    for path in (folder / ADAPTER).iterdir():
        path.rename(folder / path.name)
    with pytest.raises(UserError, match=refused):
        PRECISIONS.get("fp32")(folder, "cpu")
    assert not (tmp_path / "opened").exists()


def test_an_index_may_name_safetensors_of_its_own_folder_only(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m", max_shard_size="20KB")
    assert not (tmp_path / "m" / "model.safetensors").exists()
    check_weights(tmp_path / "m")
    index = tmp_path / "m" / "model.safetensors.index.json"
    for strange in ("shard.bin", "../other/model.safetensors"):
        raw = json.loads(index.read_text())
        raw["weight_map"][next(iter(raw["weight_map"]))] = strange
        index.write_text(json.dumps(raw))
        with pytest.raises(UserError, match=r"model\.safetensors\.index\.json: names '"):
            PRECISIONS.get("fp32")(tmp_path / "m", "cpu")


def test_a_folder_without_weights_says_so(pickled: Path) -> None:
    for path in pickled.glob("*.bin"):
        path.unlink()
    with pytest.raises(UserError, match=r"old: no weights \(\*\.safetensors\) here"):
        PRECISIONS.get("fp32")(pickled, "cpu")


def test_a_model_on_the_hub_without_safetensors_names_the_remedy() -> None:
    class OnHub:
        @staticmethod
        def from_pretrained(source: str, revision: str, use_safetensors: bool, **options: Any) -> None:
            assert use_safetensors
            raise OSError(f"{source} does not appear to have a file named model.safetensors")

    with pytest.raises(UserError, match=r"model 'old/bert': 'old/bert' has no \.safetensors weights.*convert"):
        read_model(OnHub, "old/bert", "model 'old/bert'", "0" * 40)


# --- nobody goes around it ---------------------------------------------------------------------------

SAFE_KINDS = {"AutoConfig", "AutoTokenizer", "PreTrainedTokenizerFast"}
ALLOWED = {
    "hub.py",  # read_model and read_pretrained
    "weight_files.py",  # read_folder and read_whole
    "methods/packaged.py",  # GGUF, checked by its hash
    "precision/adapted.py",  # an adapter, after check_adapter
}
BETWEEN_PROCESSES = {
    "runner/pool.py", "runner/worker.py", "engines/elsewhere.py", "engines/ray_cluster.py", "engines/ray_tasks.py",
    "engines/slurm.py", "stages/process.py", "stages/processes.py",
}  # fmt: skip
"""A run and its own workers speak through a pipe that nobody else has, or by the engine it was told to use, which moves
pickles itself; no file is read."""
OWN_PICKLES = {"pickle"}


def calls(path: Path) -> set[str]:
    """What opens weights in this file, by its own means: ``KIND.from_pretrained``, ``torch.load``, pickles."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found |= {name for name in names if name.split(".")[0] in ("pickle", "dill", "joblib", "cloudpickle")}
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        if name == "from_pretrained" and owner not in SAFE_KINDS:
            found.add(f"{owner}.{name}")
        if (owner, name) in (("torch", "load"), ("np", "load"), ("numpy", "load"), ("pd", "read_pickle")):
            found.add(f"{owner}.{name}")
        if name in ("load_from_checkpoint", "load_state_dict_from_url"):
            found.add(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_weights_are_opened_in_one_place(path: Path) -> None:
    own = OWN_PICKLES if path.relative_to(PACKAGE).as_posix() in BETWEEN_PROCESSES else set()
    assert str(path.relative_to(PACKAGE)) in ALLOWED or not calls(path) - own


def test_that_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import pickle\nM.from_pretrained(x)\ntorch.load(f)\nAutoConfig.from_pretrained(x)\n"
    )
    assert calls(tmp_path / "a.py") == {"pickle", "M.from_pretrained", "torch.load"}
