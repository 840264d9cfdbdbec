"""What can be known to be wrong with two models of which one learns from the other's logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecr_bench import formats
from ecr_bench.errors import UserError
from ecr_bench.hub import read_pretrained
from ecr_bench.methods.packaged import local_source
from ecr_bench.reading import user_path
from ecr_bench.runner.needs import needs, parameters
from ecr_bench.runner.unread import READ_BYTES, config_of, numbers_kept, refuse_beyond_free, training_memory, unfilled
from ecr_bench.runner.used import Distillation, UsedModel, UsedSize
from ecr_bench.sizes import PretrainedSize

BYTES_OF = {"int8": 1, "nf4": 0.5}
"""Of a weight that adapters are trained beside, at the least."""

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_distillation(pair: Distillation, here: bool) -> None:
    """UserError where the larger model reads fewer tokens than the student, has another tokenizer, or does not fit into
    this machine's memory beside it (``here``)."""
    _check_window(pair)
    if differing := _difference(pair):
        raise UserError(
            f"{pair.key}: {_named(pair.larger)} has another tokenizer than size {pair.student.name}, which learns from "
            f"its logits ({differing}): they need one tokenizer"
        )
    if here and pair.in_steps:
        _check_memory(pair)


def _named(model: UsedSize | UsedModel) -> str:
    return f"size {model.name}" if isinstance(model, UsedSize) else model.source


def _check_window(pair: Distillation) -> None:
    from ecr_bench.data.tokenizer import positions_of

    larger, window = pair.larger, pair.student.size.max_length
    if isinstance(larger, UsedSize) and not isinstance(larger.size, PretrainedSize):
        room: int | None = larger.size.max_length
    else:
        room = positions_of(_config(larger))
    if room and room < window:
        raise UserError(
            f"{pair.key}: {_named(larger)} reads {room} tokens, the size that learns from it {window} (its "
            "max_length): it must read as many"
        )


def _config(model: UsedSize | UsedModel) -> Any:
    from transformers import AutoConfig

    if isinstance(model, UsedModel):
        return read_pretrained(AutoConfig, model.source, model.key, model.revision)
    assert isinstance(model.size, PretrainedSize)
    return config_of(model.size)


def _difference(pair: Distillation) -> str:
    """What tells the tokenizers apart as far as it is known before one is trained or cut; two sizes that cannot share
    one at all are refused by the plan (runner/grid.py)."""
    from ecr_bench.data.tokenizer import difference, load_tokenizer

    ours, larger = pair.student.size, pair.larger
    if isinstance(larger, UsedModel):
        found = load_tokenizer(user_path(larger.source))
        if not isinstance(ours, PretrainedSize):
            return _beyond_training(found, pair.student.settings.tokenizer.vocab_size)
        own = _own_tokenizer(ours)
        return _beyond_cutting(found, own) if ours.vocabulary == "corpus" else difference(own, found)
    theirs = larger.size
    if not isinstance(ours, PretrainedSize) or not isinstance(theirs, PretrainedSize):
        return ""
    same = (ours.model, ours.revision) == (theirs.model, theirs.revision)
    return "" if same else difference(_own_tokenizer(ours), _own_tokenizer(theirs))


def _beyond_training(found: PreTrainedTokenizerBase, most: int) -> str:
    """Why no training of a tokenizer here can end with this one."""
    from ecr_bench.data.tokenizer import SPECIAL

    vocabulary = found.get_vocab()
    if len(vocabulary) > most:
        return f"{len(vocabulary):,} tokens, at most {most:,} here"
    return next(
        (f"{token} is not its token {place}" for place, token in enumerate(SPECIAL) if vocabulary.get(token) != place),
        "",
    )


def _beyond_cutting(found: PreTrainedTokenizerBase, whole: PreTrainedTokenizerBase) -> str:
    """Why no cut of a vocabulary can be this one."""
    new = found.get_vocab().keys() - whole.get_vocab().keys()
    return f"{len(new):,} tokens that {whole.name_or_path} has not" if new else ""


def _own_tokenizer(size: PretrainedSize) -> PreTrainedTokenizerBase:
    from ecr_bench.data.tokenizer import own_tokenizer

    return own_tokenizer(local_source(size.model), size.max_length, size.revision)


def _check_memory(pair: Distillation) -> None:
    student, beside = _training(pair.student), _reading(pair.larger)
    refuse_beyond_free(
        f"size {pair.student.name} with {_named(pair.larger)} beside it ({pair.key})",
        student + beside,
        f"to be trained ({formats.size(student)} and {formats.size(beside)})",
        "take smaller models" + ("" if pair.key == "pretrain.distill" else ", or give options.distill.cache_top_k"),
    )


def _training(student: UsedSize) -> int:
    """Bytes, at the least."""
    if not student.weights_trained:
        return int(BYTES_OF.get(student.quantised, READ_BYTES) * _numbers(student))
    if isinstance(student.size, PretrainedSize):
        return training_memory(student.size, config_of(student.size))
    stages = [need.bytes for need in needs(student.settings, student.name) if need.stage in student.trained]
    return max(stages, default=0)


def _numbers(model: UsedSize) -> int:
    """Parameters of a size, at the least."""
    if isinstance(model.size, PretrainedSize):
        return numbers_kept(model.size, config_of(model.size))
    return parameters(model.size, model.settings.tokenizer.vocab_size)


def _reading(larger: UsedSize | UsedModel) -> int:
    """Bytes of its weights in float32, at the least."""
    from transformers import AutoModelForCausalLM

    from ecr_bench.methods.models import count_parameters

    if isinstance(larger, UsedModel):
        return READ_BYTES * count_parameters(unfilled(AutoModelForCausalLM, _config(larger), _named(larger)))
    return READ_BYTES * _numbers(larger)
