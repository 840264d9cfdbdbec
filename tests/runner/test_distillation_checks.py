"""Two models of which one learns from the other's logits are looked at together, before anything runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
)

from ecr_bench import config, memory
from ecr_bench.errors import UserError
from ecr_bench.methods.models import count_parameters
from ecr_bench.runner.model_checks import check_models
from ecr_bench.runner.needs import parameters
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.store import Store
from tests.helpers.tiny_models import LLAMA, bpe, save

KEYS: dict[str, dict[str, Any]] = {
    "pretrain.distill": {"method": "finetune", "set": {"pretrain.distill": "3x"}},
    "options.distill.size": {"method": "finetune", "with": ["distill"]},
}


def checked(key: str, student: Path | None, larger: Path | None, **overrides: Any) -> None:
    """Check a plan in which a size learns from another by ``key``; None for a size from scratch."""
    given = {"1x": student, "3x": larger}
    sizes = {f"sizes.{name}": {"model": str(path), "max_length": 64} for name, path in given.items() if path}
    experiment = config.load("tiny").with_overrides({**sizes, "cells": [KEYS.get(key)], **overrides})
    check_models(make_plan(experiment), Store(Path("nowhere")), Console(quiet=True))


def refused(*args: Any, **overrides: Any) -> str:
    with pytest.raises(UserError) as caught:
        checked(*args, **overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("small") / "llama")


@pytest.mark.parametrize("key", KEYS)
def test_two_models_of_one_family_pass(key: str, llama: Path, tmp_path: Path) -> None:
    checked(key, llama, save("llama", tmp_path / "llama", scale=2, layers=3))


@pytest.mark.parametrize("key", KEYS)
def test_models_of_two_families_have_two_tokenizers(key: str, llama: Path, tmp_path: Path) -> None:
    message = refused(key, llama, save("qwen2", tmp_path / "qwen"))
    assert message.startswith(f"{key}: size 3x has another tokenizer than size 1x")
    assert "(token, id) pairs differ" in message


@pytest.mark.parametrize("key", KEYS)
def test_a_model_from_scratch_has_a_tokenizer_of_its_own(key: str, llama: Path) -> None:
    assert refused(key, None, llama).startswith(f"{key}: size 3x has that of its model; size 1x, which learns from")


def folder_with(tokenizer: PreTrainedTokenizerFast, llama: Path, folder: Path) -> Path:
    shutil.copytree(llama, folder)
    tokenizer.save_pretrained(str(folder))
    return folder


def test_a_folder_with_a_tokenizer_that_no_training_here_can_give(
    llama: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    ours = folder_with(tokenizer, llama, tmp_path / "ours")

    def given(folder: Path, count: int) -> dict[str, Any]:
        return {"options.distill": {"model": str(folder)}, "sizes.1x.max_length": 64, "tokenizer.vocab_size": count}

    for folder, count, said in (
        (llama, 300, "at most 300 here"), (llama, 600, "<|bos|> is not its token 0"), (ours, 300, "at most 300 here"),
    ):  # fmt: skip
        message = refused("options.distill.size", None, None, **given(folder, count))
        assert message.startswith(f"options.distill.model: {folder} has another tokenizer than size 1x")
        assert said in message
    checked("options.distill.size", None, None, **given(ours, len(tokenizer)))


def test_a_folder_with_tokens_that_no_cut_of_the_vocabulary_has(llama: Path, tmp_path: Path) -> None:
    """A cut tokenizer has some of the model's own tokens under other ids."""

    def given(folder: Path) -> dict[str, Any]:
        cut = {"model": str(llama), "max_length": 64, "vocabulary": "corpus"}
        return {"options.distill": {"model": str(folder)}, "sizes.1x": cut}

    qwen = save("qwen2", tmp_path / "qwen")
    assert f"tokens that {llama} has not" in refused("options.distill.size", llama, None, **given(qwen))
    checked("options.distill.size", llama, None, **given(llama))


def test_a_text_is_parted_by_the_same_rules(llama: Path, tmp_path: Path) -> None:
    other = AutoTokenizer.from_pretrained(llama)
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    folder = folder_with(other, llama, tmp_path / "digits")
    assert "same tokens, other rules" in refused("options.distill.size", llama, folder)


def test_adapters_on_a_model_from_scratch_need_no_gradients_of_its_weights(
    llama: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_with(tokenizer, llama, tmp_path / "ours")
    given = {"options.distill": {"model": str(folder)}, "sizes.1x.max_length": 64, "pretrain.steps": 1}
    given |= {"tokenizer.vocab_size": len(tokenizer), "cells": [{"method": "finetune", "with": ["distill", "lora"]}]}
    larger = count_parameters(AutoModelForCausalLM.from_pretrained(folder))
    student = parameters(config.load("tiny").with_overrides(given).sizes["1x"], len(tokenizer))
    monkeypatch.setattr(memory, "free_memory", lambda: 4 * (student + larger))
    checked("options.distill.size", None, None, **given)
    whole = {**given, "cells": [{"method": "finetune", "with": ["distill"]}]}
    assert "beside it (options.distill.model)" in refused("options.distill.size", None, None, **whole)


@pytest.mark.parametrize("key", KEYS)
def test_the_larger_model_lies_in_memory_beside_the_student(
    key: str, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = save("llama", tmp_path / "llama", layers=3)
    ours, theirs = (count_parameters(AutoModelForCausalLM.from_pretrained(path)) for path in (llama, larger))
    trained = {"3x" if key == "options.distill.size" else "": 16 * theirs}  # which is trained before, alone
    both = 16 * ours + 4 * theirs
    assert both > max(trained.values())
    monkeypatch.setattr(memory, "free_memory", lambda: both)
    checked(key, llama, larger)
    monkeypatch.setattr(memory, "free_memory", lambda: both - 1)
    message = refused(key, llama, larger)
    assert message.startswith(f"size 1x with size 3x beside it ({key}) takes ") and "kB are free" in message
    if key == "options.distill.size":  # asked before the student is trained
        checked(key, llama, larger, **{"options.distill": {"cache_top_k": 4}})


def test_adapters_need_no_gradients_of_the_weights(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = count_parameters(AutoModelForCausalLM.from_pretrained(llama))
    monkeypatch.setattr(memory, "free_memory", lambda: 4 * count)
    plain = {"cells": [{"method": "finetune"}], "pretrain.steps": 0}
    adapted = {**plain, "cells": [{"method": "finetune", "with": ["lora"]}]}
    key = "options.distill.size"
    checked(key, llama, llama, **adapted)
    for needs_all in (plain, {**adapted, "pretrain.steps": 1}):
        assert "to be read and trained" in refused(key, llama, llama, **needs_all)


@pytest.mark.parametrize(("key", "value"), [("geometry.layer", 4), ("projection.options", {"layer": 4})])
@pytest.mark.parametrize("fine_tuned", [False, True])
def test_layers_are_asked_only_of_models_that_are_looked_at(
    key: str, value: Any, fine_tuned: bool, tmp_path: Path
) -> None:
    """Of a larger model whose logits are learned from nothing is, but that its fine-tuning keeps states to measure."""
    deep = save("llama", tmp_path / "llama", layers=5)
    shallow: dict[str, Any] = {"sizes.3x": {"model": str(deep), "max_length": 64, "layers": 2}}
    distilled = {"method": "ecr", **({"with": ["distill"]} if fine_tuned else {"set": {"pretrain.distill": "3x"}})}
    given = {**shallow, "projection.kind": "hidden", key: value, "cells": [distilled]}
    if fine_tuned and key == "geometry.layer":
        assert refused("", deep, None, **given).startswith("geometry.layer: 4 is no layer of size 3x")
        given["geometry.snapshots"] = 0
    checked("", deep, None, **given)
    plain = {"method": "finetune", "sizes": ["3x"]}
    both = {**given, "cells": [distilled, plain]}
    if key == "geometry.layer":
        assert refused("", deep, None, **both).startswith("geometry.layer: 4 is no layer of size 3x")
    else:
        checked("", deep, None, **both)  # a plain model has no projection
    both["cells"] = [distilled, {**plain, "method": "ecr"}]
    assert f"{key.partition('.')[0]}." in (message := refused("", deep, None, **both)) and "of size 3x" in message


def test_a_quantised_base_takes_less_beside_the_larger_model(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = count_parameters(AutoModelForCausalLM.from_pretrained(llama))
    key = "options.distill.model"
    adapted = {"cells": [{"method": "finetune", "with": ["distill", "lora"]}], "pretrain.steps": 0}
    beside = {**adapted, "options": {"distill": {"model": str(llama)}}}
    monkeypatch.setattr(memory, "free_memory", lambda: 8 * count - 1)
    assert refused("options.distill.size", llama, llama, **beside).startswith(f"size 1x with {llama} beside it ({key})")
    monkeypatch.setattr(memory, "free_memory", lambda: 5 * count)
    quantised = {**beside, "options": {**beside["options"], "lora": {"base": "nf4"}}}
    checked("options.distill.size", llama, llama, **quantised)


NARROW = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_encoder_decoders_are_known_before(kind: str, tmp_path: Path) -> None:
    tokenizer = bpe(LLAMA, bos=True)
    if kind == "bart":
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        model: Any = BartForConditionalGeneration(BartConfig(vocab_size=len(tokenizer), **NARROW, **heads))
    else:
        model = T5Model(T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=16, num_heads=2, d_ff=32, num_layers=1))
    folder = tmp_path / kind
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ecr = {"cells": [{"method": "ecr"}]}
    as_teacher = {"teacher.name": "hf", "teacher.options": {"model": str(folder)}}
    said = "is an encoder-decoder: give an encoder or a causal language model"
    assert refused("options.distill.size", folder, None, **ecr) == f"model {str(folder)!r} {said}"
    message = refused("options.distill.size", None, None, **ecr, **as_teacher)
    assert message == f"teacher.options.model: {folder} {said}"
