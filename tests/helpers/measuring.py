"""A finished cell in folders as the stages leave them, and its measures."""

from __future__ import annotations

import pandas as pd
import torch

from ecr_bench.config import ControlTokensConfig
from ecr_bench.methods.method import Ingredients
from ecr_bench.methods.recipe import Recipe
from ecr_bench.metrics.files import FILE, read_measures
from ecr_bench.stages.geometry import GeometryInputs, GeometrySettings, GeometryStage
from ecr_bench.types import Item, Measure

LANGS = ["de", "en", "ru"]


SETTINGS = GeometrySettings(layer=-1, precision="fp32", batch_tokens=2048, sts_path="", sts_pairs=50)


def no_progress(done: int, total: int) -> None:
    pass


def item(task: str, lang: str, meaning: int, choices=("a", "b", "c", "d")) -> Item:
    name, cluster = f"{task}/{lang}/{meaning}", f"m{meaning}"
    return Item(name, task, "coarse", cluster, lang, lang, "text", "intent:", tuple(choices), 0)


def records(items: list[Item]) -> pd.DataFrame:
    fixed = {"cell": "", "arm": "", "precision": "fp32", "seed": 0, "grain": "coarse", "group": "seen"}
    rows = [
        {
            **fixed, "task": i.task, "task_name": f"ecr_{i.task}_{i.lang}", "lang": i.lang, "target_lang": i.lang,
            "item_id": i.item_id, "cluster": i.cluster, "topic": i.topic, "control_tokens": [], "extra_tokens": 0,
            "loglikelihoods": [-float(ord(choice)) for choice in i.choices], "choice_bytes": [1] * len(i.choices),
            "gold": 0, "predicted": 0, "correct": True,
        }
        for i in items
    ]  # fmt: skip
    return pd.DataFrame(rows)


def save_cell(folder, method: str, model, tokenizer, anchors_and_projection, kind: str = "token-table") -> None:
    """A cell of ``method`` as the train stage saves it, with fresh control tokens."""
    anchors, projection = anchors_and_projection
    control = ControlTokensConfig(count=2)
    given = Ingredients(tokenizer, control, ("de", "en", "ru"), 8, 1, 32, anchors, projection, torch.zeros(5, 2).long())
    conditioner = Recipe.of(method).conditioner(given)
    if conditioner.tokens is not None:
        conditioner.tokens.add_to(model, 0.5, 0)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    conditioner.save(folder / "model" / "conditioner")


def measured(inputs, **changed) -> dict[tuple[str, int | None, str], Measure]:
    folders = GeometryInputs(**{role: folder for role, folder in inputs.items() if role != "out"})
    GeometryStage.run(SETTINGS.model_copy(update=changed), folders, inputs["out"], no_progress)
    return {(m.metric, m.step, m.lang): m for m in read_measures(inputs["out"] / FILE)}
