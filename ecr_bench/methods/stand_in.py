"""Labelled training on languages without labels: a text stands in for one whose codes it shares."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ecr_bench.errors import UserError
from ecr_bench.methods.method import Encode, Modifier, Training
from ecr_bench.section import Section

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ecr_bench.data.encode import Example
    from ecr_bench.data.module import Variation
    from ecr_bench.methods.module import ArmModule
    from ecr_bench.methods.recipe import Recipe

CHUNK = 1024


class StandIn(Modifier):
    """Shows coarse training items with an unlabelled text of another language now and then, near in codes or vector."""

    # Pseudo-labelling by nearest neighbours. A text that shares its codes has the label of the text it stands in for,
    # if codes carry labels; of a fine item it has not the slots, so these are left alone.

    class Options(Section):
        """Which texts stand in, and how often."""

        by: Literal["codes", "vector"] = "codes"
        """`codes`: most anchors shared. `vector`: highest cosine of the projections, which is what the probe reads."""
        share: float = Field(default=0.5, ge=0, le=1)
        """Probability that the text of a coarse item is exchanged, drawn anew each time it comes up."""
        nearest: int = Field(default=4, ge=1, le=1_000_000)
        """Texts that may stand in for one text, all as likely."""

    options: Options
    uses_anchors = True
    sections = ("control_tokens",)  # how many codes a text has, beside a plain model as well

    def misfit(self, recipe: Recipe) -> str:
        if recipe.method.drop_cue:
            return f"{recipe.method.name} shows no text"
        follower = next((part.name for part in recipe.parts if part.follows_model), "")
        return f"{follower} changes codes during training" if follower else ""

    def prepare(self, module: ArmModule, training: Training) -> None:
        self.training = training

    def variation(self, encode: Encode) -> Variation | None:
        from ecr_bench.data.encode import encode_items

        training = self.training
        coarse = [index for index, item in enumerate(training.items) if item.grain == "coarse"]
        labelled = {item.lang for item in training.items}
        texts = list(dict.fromkeys((row.text, row.lang) for row in training.texts if row.lang not in labelled))
        if not coarse or not texts:
            missing = "coarse training item" if not coarse else "unlabelled text of a language without labels"
            raise UserError(f"stand-in: there is no {missing}")
        queries = [training.items[index].text for index in coarse]
        found = nearest(self._vectors(queries), self._vectors([text for text, _ in texts]), self.options.nearest)
        exchanged = [
            dataclasses.replace(training.items[index], text=texts[at][0], lang=texts[at][1])
            for index, places in zip(coarse, found.tolist(), strict=True)
            for at in places
        ]
        rows, each = encode_items(training.conditioner, exchanged, training.window), found.shape[1]
        groups = {index: rows[place * each :][:each] for place, index in enumerate(coarse)}
        return Exchange(groups, self.options.share)

    def _vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, d) float32 of unit length, whose products say how near two texts are."""
        from torch.nn.functional import normalize, one_hot

        from ecr_bench.ecr.projection import project

        given = self.training.given
        assert given.projection is not None and given.anchors is not None
        projected = project(given.projection, given.tokenizer, texts)
        if self.options.by == "vector":
            return normalize(projected, dim=-1)
        if not (count := int(self.training.settings["control_tokens"]["count"])):
            raise UserError(
                "stand-in: control_tokens.count is 0, so texts have no codes to share: by: vector needs none"
            )
        codes = given.anchors.assign(projected, count)
        marks = one_hot(codes, given.anchors.centroids.shape[1]).float()  # (N, m, K)
        # the same id of another residual level is another code
        return normalize(marks.flatten(1) if given.anchors.levels > 1 else marks.sum(1), dim=-1)


def nearest(queries: torch.Tensor, texts: torch.Tensor, count: int) -> torch.Tensor:
    """(Q, min(count, T)) int64: for each of ``queries`` (Q, d) the ``texts`` (T, d) of the highest products."""
    import torch

    count = min(count, len(texts))
    return torch.cat([(part @ texts.T).topk(count).indices for part in queries.split(CHUNK)])


@dataclass(frozen=True)
class Exchange:
    """Decide for each draw of a row whether one of its ``groups`` is shown instead; rows without a group stay."""

    groups: dict[int, list[Example]]
    share: float

    def __call__(self, index: int, row: Example, generator: np.random.Generator) -> Example:
        group = self.groups.get(index)
        if group is None or generator.random() >= self.share:
            return row
        return group[generator.integers(len(group))]
