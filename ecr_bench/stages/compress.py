"""Stage ``compress``: a pretrained model with the layers and the tokens that a size keeps, before it is healed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ecr_bench.items.registry import TASKS
from ecr_bench.section import Section
from ecr_bench.sizes import Fitting, PretrainedSize
from ecr_bench.stages.work import Chosen, Report, Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CHOICE_TEXTS = 64
"""Validation texts that the greedy choice of layers looks at, over all languages."""
CHOICE_BATCH = 32


class CompressSettings(Section):
    size: PretrainedSize

    @classmethod
    def of(cls, size: PretrainedSize) -> CompressSettings:
        """How it will be trained makes no difference here."""
        plain = {name: field.default for name, field in Fitting.model_fields.items() if name != "max_length"}
        return cls(size=size.model_copy(update=plain))


@dataclass(frozen=True)
class CompressInputs:
    tokenizer: Path
    corpus: Path | None = None
    """For a choice of layers by the loss."""


class Compressed(Section):
    parameters: int
    of: int
    """Parameters of the whole model, with its whole vocabulary."""
    layers: tuple[int, ...]
    """Kept, by their number in the whole model."""
    tokens: int
    """Rows of the embedding."""
    losses: tuple[float, ...] = ()
    """Greedy choice: nats per token on validation text after each layer that was taken out."""


class CompressStage(Work[CompressSettings, CompressInputs, Compressed]):
    """Leaves ``model/`` with its tokenizer, in the dtype the model was saved in."""

    kind = "compress"
    Settings, Inputs, Result = CompressSettings, CompressInputs, Compressed

    @staticmethod
    def run(settings: CompressSettings, inputs: CompressInputs, folder: Path, report: Report) -> Compressed:
        from ecr_bench.data.tokenizer import load_tokenizer
        from ecr_bench.data.vocabulary import load_kept
        from ecr_bench.methods.models import count_parameters
        from ecr_bench.methods.pretrained import load_pretrained
        from ecr_bench.methods.pruning import keep_layers, keep_tokens

        size = settings.size
        tokenizer = load_tokenizer(inputs.tokenizer / "tokenizer")
        kept = load_kept(inputs.tokenizer) if size.vocabulary == "corpus" else None
        model = load_pretrained(size, tokenizer, tokens=None if kept is None else int(kept.max()) + 1)
        whole = count_parameters(model)
        if kept is not None:
            keep_tokens(model, kept)
        layers, losses = _layers(size, model, tokenizer, inputs.corpus, report)
        keep_layers(model, layers)
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        return Compressed(
            parameters=count_parameters(model),
            of=whole,
            layers=tuple(layers),
            tokens=int(model.config.vocab_size),
            losses=tuple(losses),
        )

    @classmethod
    def chosen(cls, settings: CompressSettings) -> Iterable[Chosen]:
        return [(TASKS, ())]  # within reach of the code that encodes rows; none is asked

    @classmethod
    def summary(cls, result: Compressed) -> str:
        kept = ", ".join(map(str, result.layers))
        return f"{result.parameters / 1e6:.1f} of {result.of / 1e6:.1f} million parameters, layers {kept}"


def _layers(
    size: PretrainedSize,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Path | None,
    report: Report,
) -> tuple[list[int], list[float]]:
    """The layers that are kept, and the losses they were chosen by."""
    import torch

    from ecr_bench.methods.layer_choice import check_count, ends, even
    from ecr_bench.methods.pruning import greedy_layers

    total = int(model.config.num_hidden_layers)
    if size.keep_layers is not None:
        return list(size.keep_layers), []
    count = size.layers or total
    check_count(count, total, f"model {size.model!r}")
    if size.layer_choice != "greedy":
        return (even if size.layer_choice == "even" else ends)(count, total), []
    assert corpus is not None
    dtype = model.dtype
    loss = _validation_loss(model.float(), tokenizer, corpus, size.max_length)
    found = greedy_layers(model, count, loss, report)
    torch.nn.Module.to(model, dtype)  # transformers wraps its own `to` in a type that takes no dtype
    return found


def _validation_loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Path, window: int
) -> Callable[[], float]:
    """Nats per token of ``model``, as it is when it is asked, on some validation texts of all languages."""
    import torch

    from ecr_bench.corpora.base import Corpus
    from ecr_bench.data.cutting import whole_texts
    from ecr_bench.data.encode import encode_texts
    from ecr_bench.data.module import IGNORED, collate
    from ecr_bench.data.sampling import balanced_sample
    from ecr_bench.ecr.conditioner import Conditioner
    from ecr_bench.errors import UserError
    from ecr_bench.methods.base import cross_entropy

    rows = Corpus.load(corpus / "corpus").frame("text", "lang", splits=["validation"])
    drawn = balanced_sample(rows, CHOICE_TEXTS, 0)
    if drawn.empty:
        raise UserError("layer_choice: greedy: the corpus has no validation text to choose layers by")
    texts = whole_texts(zip(drawn.text, drawn.lang, strict=True))
    found = sorted(encode_texts(Conditioner(tokenizer), texts, window), key=lambda row: len(row.ids))
    parts = [found[start : start + CHOICE_BATCH] for start in range(0, len(found), CHOICE_BATCH)]
    batches = [collate(part, tokenizer.pad_token_id) for part in parts]
    counts = [int((batch["labels"] != IGNORED).sum()) for batch in batches]

    @torch.no_grad()
    def loss() -> float:
        sums = (float(cross_entropy(model, batch)) * count for batch, count in zip(batches, counts, strict=True))
        return sum(sums) / sum(counts)

    return loss
