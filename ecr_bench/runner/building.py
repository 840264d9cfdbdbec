"""The stages before any arm: corpus, tokenizer, items, base models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ecr_bench.config import CorpusConfig, PretrainConfig, TokenizerConfig
from ecr_bench.corpora.base import Corpus
from ecr_bench.corpora.registry import build as build_corpus
from ecr_bench.errors import UserError
from ecr_bench.io import write_json
from ecr_bench.items.files import write_items
from ecr_bench.items.pairs import pairs as language_pairs
from ecr_bench.items.registry import build_items
from ecr_bench.items.surface import surface_baselines
from ecr_bench.runner.training import fit
from ecr_bench.sizes import size_config


def corpus_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    corpus = build_corpus(CorpusConfig(**spec["corpus"]))
    corpus.save(folder / "corpus")
    return {"rows": corpus.card.rows, "fingerprint": corpus.card.fingerprint}


def tokenizer_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Train the shared BPE, or keep the tokenizer a pretrained model brings."""
    from ecr_bench.data.tokenizer import own_tokenizer, save_own_tokenizer, train_tokenizer

    if "model" in spec:
        from ecr_bench.methods.packaged import local_source

        own = own_tokenizer(local_source(spec["model"]), spec["max_length"])
        return {"vocab_size": len(save_own_tokenizer(own, folder / "tokenizer"))}
    rows = Corpus.load(inputs["corpus"] / "corpus").dataset.to_pandas()
    tokenizer = train_tokenizer(rows[rows.split == "train"].text, TokenizerConfig(**spec["tokenizer"]))
    tokenizer.save_pretrained(folder / "tokenizer")
    return {"vocab_size": len(tokenizer)}


def items_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Test items of every language; training and validation items of the seen ones."""
    rows = Corpus.load(inputs["corpus"] / "corpus").dataset.to_pandas()
    languages, seen = sorted(rows.lang.unique()), spec["seen"]
    if missing := sorted(set(seen) - set(languages)):
        raise UserError(f"seen_languages: no text in {', '.join(missing)}: the corpus has {', '.join(languages)}")
    kinds = spec["scoring"]["pairs"]
    within = [f"{a}-{b}" for a in seen for b in seen if a != b]
    built: dict[str, list[Any]] = {"test": [], "train": [], "validation": []}
    for task in spec["tasks"]:
        groups = len(within) if task == "meaning" else len(seen)
        for split, names, pairs, count in (
            ("test", languages, language_pairs(languages, kinds), spec["scoring"]["items"]),
            ("train", seen, within, -(-spec["train_items"] // max(1, groups))),
            ("validation", seen, within, -(-256 // max(1, groups))),
        ):
            built[split] += build_items(task, rows, split=split, languages=names, count=count, seed=0, pairs=pairs)
    for split, items in built.items():
        write_items(folder / split, items)
    group = {lang: "seen" if lang in seen else "unseen" for lang in languages}
    write_json(folder / "surface.json", surface_baselines(built["test"], built["train"], group))
    unlabelled = sorted(set(seen) - {item.lang for item in built["train"]})
    return {**{split: len(items) for split, items in built.items()}, "seen_without_items": unlabelled}


def base_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Pre-train one size on the unlabelled training text of all languages, or go on from a pretrained model."""
    from ecr_bench.data.encode import encode_plain
    from ecr_bench.data.module import ExamplesDataModule, Mixture
    from ecr_bench.data.tokenizer import load_tokenizer
    from ecr_bench.methods.base import CausalLMModule
    from ecr_bench.methods.models import base_model, count_parameters, fit_to_machine

    pretrain, size = PretrainConfig(**spec["pretrain"]), size_config(spec["size"])
    tokenizer = load_tokenizer(inputs["tokenizer"] / "tokenizer")
    model = base_model(size, tokenizer, pretrain.seed, as_is=not pretrain.steps)
    if not pretrain.steps:
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        return {"parameters": count_parameters(model), "steps": 0}
    fit_to_machine(model, size)
    rows = Corpus.load(inputs["corpus"] / "corpus").dataset.to_pandas()
    text = encode_plain(tokenizer, rows[rows.split == "train"].text.tolist(), size.max_length)
    held_out = rows[rows.split == "validation"].text
    held_out = held_out.sample(min(1000, len(held_out)), random_state=0)
    validation = encode_plain(tokenizer, held_out.tolist(), size.max_length)
    data = ExamplesDataModule(
        Mixture([], text, 1.0), validation, tokenizer.pad_token_id, pretrain.batch_size, pretrain.steps, pretrain.seed
    )
    stats = fit(CausalLMModule(model, pretrain), data, pretrain, pretrain.seed, folder, report, dtype=size.dtype)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return {"parameters": count_parameters(model), **stats}
