"""Tiny random models of the classes the paper tier uses, saved as their authors save them, and a data set to match."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ecr_bench.config import load, parse_set
from ecr_bench.publish import publish
from ecr_bench.quiet import quiet_libraries
from ecr_bench.results.schema import Board
from ecr_bench.runner.perform import run_stage
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.store import Store

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
}
LOCALES = ["ar-SA", "cy-GB", "de-DE", "en-US", "es-ES", "fi-FI", "fr-FR", "hi-IN", "hu-HU", "id-ID"]
LOCALES += ["it-IT", "ja-JP", "ko-KR", "pl-PL", "pt-PT", "ru-RU", "sw-KE", "tr-TR", "vi-VN", "zh-CN"]
LABELS = ["alarm_set", "lights_off", "play_music", "weather_query", "send_email"]


def sentence(meaning: int, locale: str) -> str:
    """The same four words for each locale, spelt its own way."""
    rng = random.Random(meaning)
    roots = [LABELS[meaning % len(LABELS)].partition("_")[0], *rng.sample(["lamp", "door", "song", "rain", "room"], 3)]
    return " ".join(f"{root}{locale[:2]}{rng.randint(0, 9)}" for root in roots)


def massive(folder: Path, meanings: int = 120) -> Path:
    """A data set with the columns of AmazonScience/massive, saved by ``save_to_disk``."""
    columns = {"id": Value("string"), "locale": Value("string"), "intent": ClassLabel(names=LABELS)}
    features = Features({**columns, "utt": Value("string")})
    parts: dict[str, list[dict]] = {"train": [], "validation": [], "test": []}
    for number in range(meanings):
        split = "test" if number % 4 == 3 else "validation" if number % 8 == 6 else "train"
        for locale in LOCALES:
            row = {"id": str(number), "locale": locale, "intent": number % len(LABELS)}
            parts[split].append({**row, "utt": sentence(number, locale)})
    DatasetDict({k: Dataset.from_list(v, features=features) for k, v in parts.items()}).save_to_disk(str(folder))
    return folder


def bpe(special: dict[str, str], bos: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE with the special tokens of a family; ``bos``: whether it puts BOS before a text."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    texts = [sentence(number, locale) for number in range(40) for locale in LOCALES]
    tokens = list(dict.fromkeys(special.values()))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=500, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False),
    )
    if bos:
        first = special["bos_token"]
        inner.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A $B", special_tokens=[(first, inner.token_to_id(first))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


LLAMA = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}  # no padding token
QWEN = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}  # no BOS
GEMMA = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}


def save(kind: str, folder: Path, scale: int = 1, layers: int = 2) -> Path:
    """A model folder of ``kind``; ``scale`` multiplies its widths."""
    wide = ("hidden_size", "intermediate_size", "head_dim")
    shape = {key: value * scale if key in wide else value for key, value in SHAPE.items()}
    shape["num_hidden_layers"] = layers
    torch.manual_seed(scale)
    if kind == "llama":
        tokenizer = bpe(LLAMA, bos=True)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **shape))
    elif kind == "qwen2":
        # like Qwen 2.5: the embedding has rows no token uses, here enough for 96 anchors and the null token
        tokenizer = bpe(QWEN, bos=False)
        config = Qwen2Config(vocab_size=len(tokenizer) + 120, tie_word_embeddings=True, bos_token_id=0, **shape)
        model = Qwen2ForCausalLM(config)
    elif kind == "qwen3":
        tokenizer = bpe(QWEN, bos=False)
        config = Qwen3Config(vocab_size=len(tokenizer) + 4, tie_word_embeddings=False, bos_token_id=0, **shape)
        model = Qwen3ForCausalLM(config)
    else:
        tokenizer = bpe(GEMMA, bos=True)
        text = {**shape, "vocab_size": len(tokenizer) - 1, "sliding_window": 16, "query_pre_attn_scalar": 16}
        if kind == "gemma3":
            model = Gemma3ForCausalLM(Gemma3TextConfig(**text))
        else:
            vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
            config = Gemma3Config(text_config=text, vision_config={**vision, "image_size": 28, "patch_size": 14})
            model = Gemma3ForConditionalGeneration(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_encoder(folder: Path) -> Path:
    """A tiny encoder in the place of multilingual-e5."""
    tokenizer = bpe({"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"}, bos=False)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_all(root: Path) -> dict[str, Path]:
    """The data set, the encoder and two sizes of each kind of model."""
    made = {"data": massive(root / "data"), "encoder": save_encoder(root / "encoder")}
    for kind in ("llama", "qwen2", "qwen3", "gemma3", "gemma3-multimodal"):
        made[kind] = save(kind, root / kind)
        made[f"{kind} 3x"] = save(kind, root / f"{kind}-3x", scale=2)
    return made


# what makes the shipped budgets a matter of seconds; everything else is run as it is in the file
SMALL = ["device=auto", "teacher.rows=300", "anchors.k=96", "projection.options.rank=8", "finetune.steps=3"]
SMALL += ["finetune.batch_size=8", "finetune.items=24", "scoring.items=2", "geometry.per_language=2"]
SMALL += ["geometry.snapshots=1", "options.lora.rank=2"]


def run_here(
    name: str, folders: dict[str, Path], out: Path, *overrides: str, own_data: bool = True
) -> tuple[Board, Plan]:
    """The shipped experiment ``name`` in this process, stage by stage: its board, written to ``out``, and its plan.

    ``own_data``: whether the data set and the encoder of ``folders`` stand in for those it names.
    """
    quiet_libraries()
    names = [f"corpus.options.path={folders['data']}", f"teacher.options.model={folders['encoder']}"]
    experiment = load(name).with_overrides(parse_set([*(names if own_data else []), *SMALL, *overrides]))
    one_seed = tuple(group.model_copy(update={"seeds": (0,)}) for group in experiment.cells)
    experiment = experiment.model_copy(update={"cells": one_seed})
    plan, store = make_plan(experiment), Store(out)
    for stage in plan.stages.values():
        run_stage(stage, store, lambda done, total: None)
    return publish(plan, store, out / experiment.name).board, plan
