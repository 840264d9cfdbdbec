"""Stage ``teacher-layer``: the hidden state of a model at which translations find each other best in training text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecr_bench.errors import UserError
from ecr_bench.io import write_json
from ecr_bench.section import Section
from ecr_bench.stages.teacher import LAYER, TeacherSettings, open_teacher
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS
from ecr_bench.types import CORPUS_COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    import torch

PAIRS = 48
"""Translation pairs of a language with the pivot, at most."""
LEAST_PAIRS = 12
"""A language with fewer is not asked."""


class TeacherLayerSettings(Section):
    teacher: TeacherSettings


@dataclass(frozen=True)
class TeacherLayerInputs:
    corpus: Path
    teacher: Path | None = None
    """The experiment's own model in the place of a teacher."""


class LayerChosen(Section):
    layer: int
    """As in transformers' ``hidden_states``: 0 the embeddings."""
    accuracy: tuple[float, ...]
    """Share of translations found at each layer, from the embeddings on."""
    pairs: int
    languages: tuple[str, ...]
    """Those whose pairs with the pivot were looked at."""


class TeacherLayerStage(Work[TeacherLayerSettings, TeacherLayerInputs, LayerChosen]):
    """Leaves ``layer.json``."""

    kind = "teacher-layer"
    Settings, Inputs, Result = TeacherLayerSettings, TeacherLayerInputs, LayerChosen

    @staticmethod
    def run(settings: TeacherLayerSettings, inputs: TeacherLayerInputs, folder: Path, report: Report) -> LayerChosen:
        import torch

        from ecr_bench.corpora.base import Corpus

        pairs = training_pairs(Corpus.load(inputs.corpus / "corpus").frame(*CORPUS_COLUMNS, splits=["train"]))
        teacher: Any = open_teacher(settings.teacher, inputs.teacher)
        texts = pairs["text"].tolist()
        states = torch.from_numpy(teacher.embed_at_all_layers(texts, lambda done: report(done, len(texts))))
        found = choose_layer(states, pairs["lang"].tolist()[::2])
        write_json(folder / LAYER, found.model_dump(mode="json"))
        return found

    @classmethod
    def chosen(cls, settings: TeacherLayerSettings) -> Iterable[Chosen]:
        return [(TEACHERS, (settings.teacher.name,))]

    @classmethod
    def summary(cls, result: LayerChosen) -> str:
        best = result.accuracy[result.layer]
        return f"layer {result.layer} of {len(result.accuracy) - 1}: {best:.0%} of {result.pairs} translations found"


def training_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows 2 i and 2 i + 1 translate each other, the pivot second; training text alone.

    UserError where no language has enough of them.
    """
    from ecr_bench.data.parallel import paired_rows

    pairs = paired_rows(rows[rows["split"] == "train"], PAIRS)
    of_pair = pairs["lang"].to_numpy()[::2]
    counts = pairs["lang"][::2].value_counts()
    enough = set(counts[counts >= LEAST_PAIRS].index)
    if not enough:
        raise UserError(
            f"teacher.options.layer: retrieval: no language has {LEAST_PAIRS} translations by `meaning` in the "
            "training text: give the number of a layer"
        )
    return pairs[[lang in enough for lang in of_pair for _ in range(2)]].reset_index(drop=True)


def choose_layer(states: torch.Tensor, langs: Sequence[str]) -> LayerChosen:
    """The layer with the highest share of translations found, mean of both directions and over languages.

    ``states`` (layers + 1, 2 P, d): of the pairs of ``langs`` (P), as ``training_pairs`` has them. Each side of a
    language's pairs is centred, as for anchors. Of equals the first.
    """
    import torch

    from ecr_bench.metrics.functional.bitext import both_ways_accuracy

    names = sorted(set(langs))
    places = {name: torch.tensor([at for at, lang in enumerate(langs) if lang == name]) for name in names}

    def found(layer: torch.Tensor) -> float:
        sides = [(layer[0::2][at], layer[1::2][at]) for at in places.values()]
        scores = [both_ways_accuracy(one - one.mean(0), other - other.mean(0)) for one, other in sides]
        return float(torch.stack(scores).mean())

    accuracy = [found(layer) for layer in states]
    best = max(range(len(accuracy)), key=accuracy.__getitem__)
    return LayerChosen(layer=best, accuracy=tuple(accuracy), pairs=len(langs), languages=tuple(names))
