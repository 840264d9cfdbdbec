"""A method, a teacher, a corpus and a task of one's own; docs/plugins.md walks through it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pandas as pd
from pydantic import Field

from ecr_bench.arm import Role
from ecr_bench.config import CorpusConfig
from ecr_bench.corpora.base import Corpus, RawRow, from_rows
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.ecr.codes import CodeSource, RandomCodes
from ecr_bench.items.registry import TASKS
from ecr_bench.items.rows import place, select
from ecr_bench.methods.method import Ingredients, Method, Modifier, Training
from ecr_bench.methods.module import ArmModule
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.section import Section
from ecr_bench.teachers.registry import TEACHERS
from ecr_bench.types import Item


# --8<-- [start:method]
class FewCodes(Method):
    """Control: random codes out of a few only."""

    role = Role.ANCHOR_CONTROL

    class Options(Section):
        distinct: int = Field(default=4, ge=1)
        """How many codes there are."""

    options: Options

    def source(self, given: Ingredients) -> CodeSource:
        return RandomCodes(given.control_tokens.count, min(self.options.distinct, given.k))


METHODS.add("few-codes", FewCodes)
# --8<-- [end:method]


# --8<-- [start:modifier]
class TokenRows(Modifier):
    """Trains the rows of the tokens only: the body of the model is frozen."""

    class Options(Section):
        norms: bool = False
        """Train the norms as well."""

    options: Options

    def prepare(self, module: ArmModule, training: Training) -> None:
        for name, parameter in module.model.named_parameters():
            parameter.requires_grad_(self.options.norms and "norm" in name)
        module.model.get_input_embeddings().requires_grad_(True)


MODIFIERS.add("token-rows", TokenRows)
# --8<-- [end:modifier]


# --8<-- [start:teacher]
class LetterTeacher:
    """How often each of 64 letters occurs: a poor teacher, but quick."""

    name, dim = "letters", 64

    class Options(Section):
        lower: bool = False
        """Count capital letters as small ones."""

    def __init__(self, options: Options):
        self.lower = options.lower
        self.fingerprint = f"letters-1-{options.lower}"  # change it whenever an embedding changes

    def embed(self, texts: Sequence[str], on_progress: Callable[[int], None] | None = None) -> np.ndarray:
        counts = np.ones((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for letter in text.lower() if self.lower else text:
                counts[row, ord(letter) % self.dim] += 1
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


TEACHERS.add("letters", LetterTeacher, "letter counts, 64-d")
# --8<-- [end:teacher]

# --8<-- [start:corpus]
THINGS = {"en": ("lamp", "door", "oven", "radio", "fan"), "de": ("Lampe", "Tür", "Ofen", "Radio", "Lüfter")}
ROOMS = {"en": ("kitchen", "hall", "cellar", "attic"), "de": ("Küche", "Flur", "Keller", "Dachboden")}
VERBS = {"en": ("open", "close", "find", "clean"), "de": ("öffne", "schließe", "finde", "putze")}


class RoomOptions(Section):
    polite: bool = False
    """Say please."""


def build_corpus(config: CorpusConfig, options: RoomOptions) -> Corpus:
    """``meaning`` is the same in both languages; a ``unit`` never occurs in two splits."""
    rows = []
    for lang in ("en", "de"):
        please = {"en": " please", "de": " bitte"}[lang] if options.polite else ""
        for (v, verb), (t, thing), (r, room) in product(*(enumerate(part[lang]) for part in (VERBS, THINGS, ROOMS))):
            rows.append(RawRow(f"{verb} {thing} {room}{please}", lang, f"{v}-{t}-{r}", VERBS["en"][v], unit=f"{t}-{r}"))
    return from_rows(rows, config=config, source="docs/examples/my_plugin.py", licence="CC0")


CORPORA.add("rooms", build_corpus, "short commands in two languages")
# --8<-- [end:corpus]


# --8<-- [start:task]
def build_task(
    frame: pd.DataFrame, *, split: str, languages: Sequence[str], count: int, seed: int, pairs: Sequence[str]
) -> list[Item]:
    """What shall be done? Four verbs, one right."""
    items = []
    for lang in languages:
        rng = random.Random(f"{seed}/{split}/{lang}")
        rows = select(frame, split, [lang])
        for row in rng.sample(rows, min(count, len(rows))):
            choices, gold = place(row.label, [verb for verb in VERBS["en"] if verb != row.label], rng)
            items.append(
                Item(
                    item_id=f"verb/{row.id}",
                    task="verb",  # the name it is registered under
                    grain="coarse",
                    cluster=row.meaning,
                    lang=lang,
                    target_lang=lang,
                    text=row.text,  # all that control tokens may see
                    question="verb:",
                    choices=choices,
                    gold=gold,
                )
            )
    return items


TASKS.add("verb", build_task, "coarse: which of four verbs the command has")
# --8<-- [end:task]
