"""Small trainings, each the same on one device and on several; run by torchrun as a module, or called in a test.

torchrun --standalone --nproc-per-node 2 -m tests.helpers.many_devices FOLDER
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from ecr_bench.config import (
    AnchorsConfig,
    ControlTokensConfig,
    FinetuneConfig,
    ProjectionConfig,
    SizeConfig,
    TokenizerConfig,
)
from ecr_bench.data.cutting import cut_texts
from ecr_bench.data.encode import encode_items, encode_texts
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.data.tokenizer import train_tokenizer
from ecr_bench.ecr.anchors import fit_anchors
from ecr_bench.ecr.projection import fit_projection
from ecr_bench.evaluation.pooled import pooled_states
from ecr_bench.methods.method import Ingredients, Training
from ecr_bench.methods.models import create_model, fit_to_machine
from ecr_bench.methods.recipe import Recipe
from ecr_bench.sizes import Devices
from ecr_bench.stages.checkpoints import SECONDS, latest
from ecr_bench.stages.fitting import OthersDone, Snapshots, fit
from ecr_bench.types import Item
from tests.helpers.distillation import save_larger_model
from tests.helpers.killed import KillAt, Killed

STEPS = 20
SIZE = SizeConfig(hidden_size=32, layers=2, heads=2, intermediate_size=64, max_length=64)
WORDS = ["lamp", "kitchen", "door", "red", "blue", "open", "close", "warm", "cold", "seven", "nine", "garden", "küche"]


@dataclass(frozen=True)
class Case:
    """One training; ``name`` is that of its folder."""

    recipe: Recipe
    optimiser: str = "muon"
    strategy: str = "ddp"
    batch: int = 7
    """No multiple of the devices."""
    loss: str = "row"
    clip: float | None = None
    accumulate: int = 1
    dtype: str = "fp32"
    killed: int = 0
    """Ends after this step and goes on from its checkpoint; 0: not."""

    @property
    def rate(self) -> float:
        """Muon makes its step in bfloat16: rounding elsewhere moves it by up to some thousandths of itself, on one
        device as well where the rows of a batch are summed in another order. So it has a small one."""
        return 0.0001 if self.optimiser == "muon" else 0.003

    @property
    def name(self) -> str:
        more = f"{self.batch}-{self.loss}-{self.clip}-{self.accumulate}-{self.dtype}-{self.killed}"
        return f"{self.recipe.name}-{self.optimiser}-{self.strategy}-{more}"


PLAIN, ECR = Recipe.of("finetune"), Recipe.of("ecr")
DISTILL = Recipe.of("finetune", ["distill"])
MAIN = [
    Case(recipe, optimiser, strategy)
    for recipe in (PLAIN, ECR, DISTILL)
    for optimiser in ("muon", "adamw")
    for strategy in ("ddp", "fsdp2")
]
OTHERS = [
    Case(Recipe.of("ecr", ["dropout"]), loss="token"),
    Case(Recipe.of("relational"), "adamw", "fsdp2"),
    Case(Recipe.of("finetune", ["lora"])),
    Case(PLAIN, clip=0.05, accumulate=2, strategy="fsdp2"),
    Case(PLAIN, "adamw", clip=0.05, accumulate=2),
    Case(Recipe.of("ecr", ["dropout"]), killed=6),
    Case(Recipe.of("ecr", ["dropout"]), strategy="fsdp2", killed=6),
    Case(PLAIN, "adamw", "fsdp2", killed=6),
]
CASES = [*MAIN, *OTHERS]


def words() -> tuple[list[str], PreTrainedTokenizerBase]:
    """Sentences and their tokenizer."""
    rng = random.Random(0)
    sentences = [" ".join(rng.choices(WORDS, k=rng.randint(3, 8))) for _ in range(120)]
    return sentences, train_tokenizer(sentences, TokenizerConfig(vocab_size=320))


def save_larger(out: Path) -> None:
    """The model that is distilled; transformers saves none where it is not the first of several processes."""
    _, tokenizer = words()
    save_larger_model(out / "larger" / "model", tokenizer)


def train(case: Case, out: Path, folder: Path, devices: Devices, kill: bool = False) -> None:
    """Leaves ``model/``, trace and snapshots in ``folder``; ``out`` has what ``save_larger`` left."""
    folder.mkdir(parents=True, exist_ok=True)
    sentences, tokenizer = words()
    ids = tokenizer(sentences, add_special_tokens=False)["input_ids"]
    vectors = torch.randn(len(sentences), 16, generator=torch.Generator().manual_seed(0))
    langs = ["en"] * len(sentences)
    anchors = fit_anchors(vectors, langs, AnchorsConfig(k=8), 1, "toy")
    config = ProjectionConfig(kind="token-table", options={"rank": 8})
    projection = fit_projection(config, ids, anchors.centre(vectors, langs), len(tokenizer), None, 0)
    given = Ingredients(tokenizer, ControlTokensConfig(count=2), ("en",), 8, 1, 32, anchors, projection)
    items = [
        Item(f"i{i}", "slot", "fine", str(i), "en", "en", text, "which ?", ("red", "blue lamp"), i % 2)
        for i, text in enumerate(sentences[:40])
    ]
    texts = cut_texts(tokenizer, [(text, "en") for text in sentences[40:60]], 0)
    conditioner = case.recipe.conditioner(given)
    model = create_model(SIZE, tokenizer, 0)
    if conditioner.tokens is not None:
        conditioner.tokens.add_to(model, 0.02, 0)
    fit_to_machine(model, SIZE.model_copy(update={"accumulate": case.accumulate}))
    settings = FinetuneConfig(
        steps=STEPS,
        batch_size=case.batch,
        learning_rate=case.rate,
        optimiser=case.optimiser,
        loss=case.loss,
        clip=case.clip,
    )
    module = case.recipe.module(model, settings)
    module.prepare(Training(given, conditioner, items, texts, 64, 0, {}, {"larger": out / "larger"}))

    def encode(arm):
        return [*encode_items(arm, items, 64), *encode_texts(arm, texts, 64)]

    rows = encode(conditioner)
    mixture = Mixture(rows[: len(items)], rows[len(items) :], 0.25)
    pad, varied = tokenizer.pad_token_id, module.variation(encode)
    data = ExamplesDataModule(mixture, rows[:15], pad, case.batch, STEPS, 0, varied)

    def pool():
        return module.gathered(lambda: pooled_states(module.model, conditioner, sentences[:5], langs[:5], -1))

    snapshots = Snapshots(pool, STEPS, 2)
    callbacks = [snapshots, *([KillAt(case.killed)] if kill else [])]
    kept = folder / "kept" if case.killed else None
    fit(module, data, settings, 0, folder, lambda *_: None, callbacks, case.dtype, kept, devices)
    snapshots.save(folder)
    module.save_model(folder / "model")


def on_all(out: Path) -> None:
    """Every case on the devices torchrun has started."""
    import os

    os.environ[SECONDS] = "0"
    torch.set_num_threads(1)
    count, rank = int(os.environ["WORLD_SIZE"]), os.environ["RANK"]
    for case in CASES:
        devices = Devices(count=count, strategy=case.strategy)
        # what only the first writes must not be written by the others, wherever that is
        folder = out / case.name / ("first" if rank == "0" else f"other-{rank}")
        if case.killed:
            folder = out / case.name / "first"  # a checkpoint is read by all
        try:
            if case.killed:
                try:
                    train(case, out, folder, devices, kill=True)
                except Killed:
                    assert rank != "0" or latest(folder / "kept") is not None
                    print(case.name, "killed", flush=True)
            train(case, out, folder, devices)
        except OthersDone:
            assert rank != "0"
            continue
        assert rank == "0"
        print(case.name, flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    on_all(Path(sys.argv[1]))
