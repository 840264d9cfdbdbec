"""Small public benchmarks made here, in the schema of the hub sets, as the JSONL files ``--data-dir`` reads."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ecr_bench.ecr.codes import ProjectionCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.evaluation.public_tasks import PUBLIC_TASKS
from tests.conftest import WORDS

CODES = {
    "xnli": ("de", "zh"), "xcopa": ("it", "zh"), "xstorycloze": ("en", "ru"), "xwinograd": ("en", "jp"),
    "pawsx": ("de", "ja"), "belebele": ("deu_Latn", "zho_Hans"), "sib200": ("deu_Latn", "rus_Cyrl"),
    "multiblimp": ("deu", "rus"), "global_mmlu": ("de", "ja"),
}  # fmt: skip
"""Two languages of each, as lm-eval names them."""


def tiny_model(tokenizer: PreTrainedTokenizerBase, window: int) -> PreTrainedModel:
    """A Llama with random weights, large enough that options differ clearly."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=window, bos_token_id=0, eos_token_id=1, pad_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def save_tiny_ecr(root: Path, tokenizer: PreTrainedTokenizerBase, anchors_and_projection: Any) -> Path:
    """A tiny ECR model as training leaves it: weights, tokenizer, conditioner; returns ``root``."""
    model, tokens = tiny_model(tokenizer, 256), ControlTokens(len(tokenizer), 8)
    tokens.add_to(model, 0.3, 0)
    model.save_pretrained(root)
    tokenizer.save_pretrained(root)
    anchors, projection = anchors_and_projection
    source = ProjectionCodes(tokenizer, projection, anchors, 3)
    Conditioner(tokenizer, source, tokens, 3).save(root / "conditioner")
    return root


def sentence(rng: random.Random, low: int = 3, high: int = 7) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(low, high))).capitalize() + "."


def _xnli(rng: random.Random, i: int) -> dict[str, Any]:
    return {"premise": f"{WORDS[i // 3 % 12]} {i // 3}", "hypothesis": sentence(rng), "label": rng.randrange(3)}


def _xcopa(rng: random.Random, i: int) -> dict[str, Any]:
    return {
        "premise": sentence(rng), "choice1": sentence(rng), "choice2": sentence(rng),
        "question": rng.choice(["cause", "effect"]), "label": rng.randrange(2), "idx": i, "changed": False,
    }  # fmt: skip


def _xstorycloze(rng: random.Random, i: int) -> dict[str, Any]:
    told = {f"input_sentence_{k}": sentence(rng) for k in range(1, 5)}
    ends = {"sentence_quiz1": sentence(rng), "sentence_quiz2": sentence(rng)}
    return {"story_id": f"s-{i}", **told, **ends, "answer_right_ending": rng.choice([1, 2])}


def _xwinograd(rng: random.Random, i: int) -> dict[str, Any]:
    options = [f"{WORDS[i // 2 % 12]} {i // 2}", f"the {WORDS[i // 2 % 9 + 3]}"]
    text = f"{sentence(rng)} Then _ {sentence(rng)}"
    # the second of a pair names the same options the other way round
    first, second = options if i % 2 else reversed(options)
    return {"sentence": text, "option1": first, "option2": second, "answer": rng.choice("12")}


def _pawsx(rng: random.Random, i: int) -> dict[str, Any]:
    return {"id": i + 1, "sentence1": sentence(rng), "sentence2": sentence(rng), "label": rng.randrange(2)}


def _belebele(rng: random.Random, i: int) -> dict[str, Any]:
    answers = {f"mc_answer{k}": sentence(rng, 1, 3) for k in range(1, 5)}
    return {
        "link": f"https://example.org/{i // 2}", "question_number": i % 2 + 1, "flores_passage": sentence(rng, 8, 20),
        "question": f"{sentence(rng)[:-1]}? ", **answers, "correct_answer_num": str(rng.randint(1, 4)), "dialect": "x",
    }  # fmt: skip


def _sib200(rng: random.Random, i: int) -> dict[str, Any]:
    topics: Any = PUBLIC_TASKS.get("sib200").fields["category"]
    return {"index_id": str(900 + i), "category": rng.choice(topics), "text": sentence(rng)}


def _multiblimp(rng: random.Random, i: int) -> dict[str, Any]:
    words = sentence(rng).split()
    return {"sen": " ".join(words), "wrong_sen": " ".join([*words[:-1], "nine."]), "phenomenon": "SV-#", "lang": "x"}


def _global_mmlu(rng: random.Random, i: int) -> dict[str, Any]:
    options = {f"option_{letter}": sentence(rng, 1, 3) for letter in "abcd"}
    return {
        "sample_id": f"anatomy/test/{i}", "subject": "anatomy", "subject_category": "STEM",
        "question": f"{sentence(rng)[:-1]}?", **options, "answer": rng.choice("ABCD"),
    }  # fmt: skip


MAKERS: dict[str, Callable[[random.Random, int], dict[str, Any]]] = {
    "xnli": _xnli, "xcopa": _xcopa, "xstorycloze": _xstorycloze, "xwinograd": _xwinograd, "pawsx": _pawsx,
    "belebele": _belebele, "sib200": _sib200, "multiblimp": _multiblimp, "global_mmlu": _global_mmlu,
}  # fmt: skip


def documents(name: str, count: int = 12, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(f"{name} {seed}")
    return [MAKERS[name](rng, i) for i in range(count)]


def write(path: Path, docs: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs), encoding="utf-8")


def write_set(root: Path, name: str, count: int = 12) -> None:
    """``root/NAME/LANGUAGE/SPLIT.jsonl`` for two languages."""
    for seed, code in enumerate(CODES[name]):
        write(root / name / code / f"{PUBLIC_TASKS.get(name).splits[0]}.jsonl", documents(name, count, seed))
