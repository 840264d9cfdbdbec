"""What the method of a stage may build its codes from: the same in pre-training and in fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SerializationInfo, field_serializer

from ecr_bench.methods.recipe import Recipe
from ecr_bench.outside import as_identity, identity_json
from ecr_bench.section import Section
from ecr_bench.sections import ControlTokensConfig, TeacherConfig
from ecr_bench.stages.teacher import TeacherSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ecr_bench.methods.method import Ingredients


class CodeShape(Section):
    """What an arm must know of the anchors before it has them."""

    k: int = 2
    levels: int = 1


class RecipeSettings(Section):
    """Method, modifiers and all their options, as plain values."""

    method: str
    modifiers: tuple[str, ...] = ()
    options: dict[str, dict[str, Any]] = {}
    """By owner."""

    @classmethod
    def of(cls, recipe: Recipe) -> RecipeSettings:
        return cls(**recipe.to_json())

    @property
    def recipe(self) -> Recipe:
        return Recipe.of(self.method, self.modifiers, self.options)

    @field_serializer("options")
    def _by_content(self, options: dict[str, Any], info: SerializationInfo) -> dict[str, Any]:
        return {part.name: identity_json(part.options) for part in self.recipe.parts} if as_identity(info) else options


class RecipeReads(Section):
    """Only what a recipe reads, so that an anchor setting does not train the plain arms again."""

    recipe: RecipeSettings
    control_tokens: ControlTokensConfig = ControlTokensConfig(count=0)
    codes: CodeShape = CodeShape()
    teacher: TeacherSettings | None = None
    """Asked in training and at test time, by the arms that may."""
    sections: dict[str, dict[str, Any]] = {}
    """Sections of the experiment that parts of the recipe read in addition, as plain JSON."""


def ingredients(
    reads: RecipeReads, tokenizer: PreTrainedTokenizerBase, corpus: Path, anchors: Path | None, width: int
) -> Ingredients:
    """From folders of stages; ``width`` is that of the model's embeddings."""
    from safetensors.torch import load_file

    from ecr_bench.corpora.base import Corpus
    from ecr_bench.ecr.anchors import Anchors
    from ecr_bench.ecr.projection import load_projection
    from ecr_bench.methods.method import Ingredients

    given: dict[str, Any] = {}
    if anchors is not None:
        given["anchors"] = Anchors.load(anchors / "anchors")
        given["projection"] = load_projection(anchors / "projection")
        given["pool"] = load_file(anchors / "pool.safetensors")["pool"]
    if (teacher := reads.teacher) is not None:
        given["teacher"] = TeacherConfig(name=teacher.name, options=teacher.options)
    languages = tuple(Corpus.load(corpus / "corpus").card.languages)
    codes = reads.codes
    return Ingredients(tokenizer, reads.control_tokens, languages, codes.k, codes.levels, width, **given)
