"""The scoring class: lm-eval's HFLM with a fast scorer and, where a model folder has one, a conditioner.

``import ecr_bench`` registers it with lm-eval as ``ecr-hf``.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import has_bos_prefix
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import PreTrainedModel

from ecr_bench.data.joint import (
    Question,
    TooLong,
    TooLongError,
    encode_contexts,
    encode_questions,
    find_too_long,
    joint_ids,
    refuse_empty,
    too_long,
)
from ecr_bench.data.tokenizer import context_window
from ecr_bench.divergence import check_finite
from ecr_bench.ecr.conditioner import Conditioner, Encoded
from ecr_bench.ecr.cue import prompt_for
from ecr_bench.errors import UserError
from ecr_bench.evaluation.generation import generate
from ecr_bench.evaluation.loading import Whole, safe_options
from ecr_bench.fast.scorer import Request, loglikelihoods
from ecr_bench.types import Prompt

DocKey = tuple[str, int]

log = logging.getLogger(__name__)


class EcrLM(HFLM):
    """HFLM whose contexts may carry control tokens.

    Without a conditioner it scores as ``hf`` does (tests/evaluation/test_lm.py); with one, every context is built by
    ``Conditioner.encode`` from the text that ``ecr.cue`` allows, and the options follow unchanged.
    """

    def __init__(
        self,
        pretrained: str | PreTrainedModel,
        *,
        conditioner: Conditioner | str | Path | None = None,
        fast: bool = True,
        batch_tokens: int = 8192,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            pretrained: path or id, or a loaded model (then give ``tokenizer`` as well).
            conditioner: a conditioner or its folder. None: ``<pretrained>/conditioner`` if it exists.
            fast: score with ``fast.scorer``; False uses lm-eval's own loop. Ignored with a conditioner.
            batch_tokens: padded tokens per forward of the fast scorer; ``batch_size`` has no effect on it.
            kwargs: everything HFLM takes.

        Raises UserError when ``conditioner`` names a folder that holds none, for weights that are no safetensors or not
        finite, and for a ``max_length`` above what the model reads.
        """
        if isinstance(pretrained, str):
            kwargs = safe_options(pretrained, kwargs)
        with _without_object_warning():
            super().__init__(pretrained, **kwargs)
        if isinstance(pretrained, str):
            check_finite(self.model, pretrained)
        if getattr(self.model, "is_quantized", False):
            from ecr_bench.precision.quantised import same_everywhere

            same_everywhere(self.model)  # a no-op for models from ``precision``; lm-eval's command line loads its own
        # HFLM's own test of strings fails for `--model_args` values, which arrive as int
        self.batch_tokens = int(batch_tokens)
        plain_forward = self.backend == "causal" and self.mixed_precision_dtype is None and self.softmax_dtype is None
        self.fast = bool(fast) and plain_forward
        if fast and not plain_forward:
            log.warning("encoder-decoder, mixed_precision_dtype or softmax_dtype: stock scoring, which is slower")
        self.conditioner = self._conditioner(conditioner)
        if self.conditioner is not None:
            if self.backend != "causal":
                raise UserError("a conditioner needs a causal model; this one is an encoder-decoder")
            self.conditioner.attach(self.model)
        if self.backend == "causal":
            self._max_length = context_window(self.model.config, self.tokenizer, kwargs.get("max_length"))
        self.last_control_tokens: dict[DocKey, list[int]] = {}
        """Control tokens of each document of the last call, by (task name, doc id)."""
        self.last_cut: set[DocKey] = set()
        """Documents of the last call whose context lost text on its left to fit the window."""
        self.on_progress: Callable[[int], None] | None = None
        """Called by the fast scorer with the number of requests finished since the last call."""

    def _create_model(self, *arguments: Any, **options: Any) -> None:
        """As HFLM does; UserError for weights that are not all there."""
        hflm: Any = self  # it has no type for the class
        kind = hflm.AUTO_MODEL_CLASS
        hflm.AUTO_MODEL_CLASS = Whole(kind)
        try:
            super()._create_model(*arguments, **options)
        finally:
            hflm.AUTO_MODEL_CLASS = kind

    def _conditioner(self, given: Conditioner | str | Path | None) -> Conditioner | None:
        if isinstance(given, Conditioner):
            return given
        root = self.pretrained if isinstance(self.pretrained, str) else self.model.name_or_path
        if given is None and not root:
            return None
        folder = Path(given) if given is not None else Path(root) / "conditioner"
        if (folder / "conditioner.json").is_file():
            return Conditioner.load(folder, self.tokenizer)
        if given is not None:
            raise UserError(f"{folder}: no conditioner here (conditioner.json is missing)")
        return None

    # --- multiple choice -------------------------------------------------------------------------

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood in nats and greediness of each (context, continuation).

        UserError, before anything is scored, for an option that adds no token, and for one that leaves its prompt no
        room in the window. Of longer contexts the left is dropped (``last_cut``).
        """
        self.last_control_tokens, self.last_cut = {}, set()
        if self.backend != "causal":  # its options are no continuations: tokenised by themselves
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        encoded = self.encode(requests)
        if self.conditioner is not None:
            return self._score(encoded, None)
        if not self.fast or self.enable_thinking:
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return self._score(encoded, [request.args for request in requests])

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Score token pairs; HFLM's rolling log-likelihood ends here, too."""
        if not self.fast:
            return super()._loglikelihood_tokens(requests, disable_tqdm=disable_tqdm, override_bs=override_bs)
        return self._score([Request(tuple(c), tuple(o)) for _, c, o in requests], [pair for pair, _, _ in requests])

    def _score(
        self, encoded: Sequence[Request], pairs: Sequence[tuple[str, str] | None] | None
    ) -> list[tuple[float, bool]]:
        scores = loglikelihoods(
            self.model,
            encoded,
            pad_id=self.tokenizer.pad_token_id or 0,
            max_length=self.max_length,
            batch_tokens=self.batch_tokens,
            on_progress=self.on_progress,
        )
        # lm-eval's response cache knows strings only: answers of a conditioned model never enter it
        for pair, score in zip(pairs or (), scores, strict=False):
            if pair is not None:
                self.cache_hook.add_partial("loglikelihood", pair, score)
        return scores

    # --- token ids -------------------------------------------------------------------------------

    def encode(self, requests: Sequence[Instance]) -> list[Request]:
        """Token ids of each (context, continuation), control tokens in place.

        UserError for an option that adds no token to its context, TooLongError for one that leaves it no room.
        """
        if self.conditioner is not None:
            return self._conditioned(requests)
        encoded = self._encode_plain(requests)
        if found := self._misfits(requests, encoded):
            raise TooLongError(list(found.values()))
        for request, (context, option) in zip(requests, encoded, strict=True):
            if len(context) + len(option) > self.max_length + 1:
                self.last_cut.add(doc_key(request))
        return encoded

    def find_too_long(self, requests: Sequence[Instance], reserve: int = 0) -> dict[DocKey, TooLong]:
        """Documents that the window cannot hold, whatever is cut off their contexts.

        ``reserve``: control tokens that another arm puts into the prompts, where this one has none. UserError for an
        option that adds no token.
        """
        if self.backend != "causal":
            return {}
        if self.conditioner is None:
            return self._misfits(requests, self._encode_plain(requests), reserve)
        groups = self._questions(requests)
        keys = {question.name: key for (key, _), (question, _) in groups.items()}
        found = find_too_long(self.conditioner, [question for question, _ in groups.values()], self.max_length)
        return {keys[one.name]: one for one in found}

    def _misfits(
        self, requests: Sequence[Instance], encoded: Sequence[Request], reserve: int = 0
    ) -> dict[DocKey, TooLong]:
        found: dict[DocKey, TooLong] = {}
        for request, (context, option) in zip(requests, encoded, strict=True):
            one = too_long(_name(request), len(context) + reserve, len(option), reserve, self.max_length)
            if one is not None:
                found.setdefault(doc_key(request), one)
        return found

    def _encode_plain(self, requests: Sequence[Instance]) -> list[Request]:
        encoded = self._encode_pairs([request.args for request in requests])
        for request, (_, ids) in zip(requests, encoded, strict=True):
            refuse_empty(_name(request), self.tokenizer, request.args[0], [(request.args[1], ids)])
        return encoded

    def _encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Request]:
        """``_encode_pair`` of lm-eval for all pairs, with each distinct string tokenised once, in one batch."""
        # an all-space context is empty without its spaces; lm-eval then tokenises "" and so do we
        joint = iter(joint_ids(self._encode_texts, [pair for pair in pairs if pair[0]]))
        bare = self._encode_texts({continuation for context, continuation in pairs if not context}, False)
        result = []
        for context, continuation in pairs:
            if context:
                result.append(Request(*next(joint)))
                continue
            tokens = bare[continuation]
            starts_with_prefix = tokens[:1] == (self.prefix_token_id,)
            result.append(
                Request(tokens[:1], tokens[1:]) if starts_with_prefix else Request((self.prefix_token_id,), tokens)
            )
        return result

    def _encode_texts(self, texts: set[str], special: bool | None = None) -> dict[str, tuple[int, ...]]:
        """Token ids by text, as ``tok_encode(text, add_special_tokens=special)`` gives them."""
        prefix = self.tokenizer.decode(self.prefix_token_id)
        kinds: dict[bool | None, list[str]] = defaultdict(list)
        for text in sorted(texts):
            flag = special if special is not None else self.add_bos_token
            kinds[False if special is None and has_bos_prefix(text, prefix) else flag].append(text)
        result: dict[str, tuple[int, ...]] = {}
        for flag, group in kinds.items():
            options = {} if flag is None else {"add_special_tokens": flag}
            result.update(zip(group, map(tuple, self.tokenizer(group, **options)["input_ids"]), strict=True))
        return result

    # --- conditioning ----------------------------------------------------------------------------

    def _conditioned(self, requests: Sequence[Instance]) -> list[Request]:
        """Token ids with control tokens; fills ``last_control_tokens``. All options of a document and context are
        one question (``data.joint``)."""
        assert self.conditioner is not None
        groups = self._questions(requests)
        found: dict[int, Request] = {}
        encoded = encode_questions(self.conditioner, [question for question, _ in groups.values()], self.max_length)
        for (key, _), (_, members), one in zip(groups, groups.values(), encoded, strict=True):
            self._remember(requests[members[0]], one.context)
            if one.cut:
                self.last_cut.add(key)
            context = tuple(one.context.ids)
            found.update((i, Request(context, ids)) for i, ids in zip(members, one.continuations, strict=True))
        return [found[i] for i in range(len(requests))]

    def _questions(self, requests: Sequence[Instance]) -> dict[tuple[DocKey, Prompt], tuple[Question, list[int]]]:
        """Each document and context with its question and the places of its requests."""
        groups: dict[tuple[DocKey, Prompt], list[int]] = defaultdict(list)
        for index, (request, prompt) in enumerate(zip(requests, prompts_of(requests), strict=True)):
            groups[doc_key(request), prompt].append(index)
        return {
            (key, prompt): (
                Question(prompt, tuple(requests[i].args[1] for i in members), _name(requests[members[0]])),
                members,
            )
            for (key, prompt), members in groups.items()
        }

    def _remember(self, request: Instance, context: Encoded) -> None:
        if request.doc_id is not None:
            self.last_control_tokens[doc_key(request)] = list(context.control_tokens)

    # --- the other request types -----------------------------------------------------------------

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts. With a conditioner, each window starts with null control tokens:
        every token is scored, so there is no text the control tokens could look at without a leak.
        """
        self.last_control_tokens = {}
        if self.conditioner is None:
            return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
        head = tuple(self.conditioner.encode([Prompt(text="", cue=None)])[0].ids)
        texts = [request.args[0] for request in requests]
        ids = self._encode_texts(set(texts), False)
        windows, owners = [], []
        for index, text in enumerate(texts):
            for window in _windows(ids[text], head, self.max_length):
                windows.append(window)
                owners.append(index)
        totals = [0.0] * len(texts)
        for index, (score, _) in zip(owners, self._score(windows, None), strict=True):
            totals[index] += score
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continuations up to a stop string, with the same conditioning as ``loglikelihood``."""
        self.last_control_tokens = {}
        if self.conditioner is None:
            return super().generate_until(requests, disable_tqdm=disable_tqdm)
        prompts = prompts_of(requests)

        def encode(chosen: list[int], max_tokens: int) -> list[list[int]]:
            assert self.conditioner is not None
            encoded = encode_contexts(self.conditioner, [prompts[i] for i in chosen], [max_tokens] * len(chosen))
            for i, context in zip(chosen, encoded, strict=True):
                self._remember(requests[i], context)
            return [context.ids for context in encoded]

        return generate(self, requests, encode)

    def get_model_info(self) -> dict[str, Any]:
        """As HFLM, but without asking the hub about a local folder or a loaded model."""
        if isinstance(self.pretrained, str) and not Path(self.pretrained).exists():
            return super().get_model_info()
        return {
            "model_num_parameters": self.model.num_parameters(),
            "model_dtype": self.model.dtype,
            "model_revision": self.revision,
            "model_sha": "",
        }


def prompts_of(requests: Sequence[Instance]) -> list[Prompt]:
    """The prompt of each request, with the cue that ``ecr/cue.py`` allows its task."""
    return [prompt_for(r.task_name or "", r.doc or {}, r.args[0]) for r in requests]


def doc_key(request: Instance) -> DocKey:
    """Which document a request belongs to."""
    return (request.task_name or "", -1 if request.doc_id is None else request.doc_id)


def _name(request: Instance) -> str:
    """Task and item, as an error names them."""
    item = (request.doc or {}).get("item_id", request.doc_id)
    return f"task {request.task_name}, item {item}"


def _windows(tokens: Sequence[int], head: tuple[int, ...], max_length: int) -> Iterator[Request]:
    """Disjoint windows over ``tokens``, each opened by ``head``; every token is predicted once."""
    size = max_length - len(head)
    pieces = get_rolling_token_windows(list(tokens), prefix_token=-1, max_seq_len=size, context_len=1)
    for context, continuation in map(make_disjoint_window, pieces):
        yield Request(head + tuple(t for t in context if t != -1), tuple(continuation))


class _without_object_warning:
    """HFLM warns about every model passed as an object, which is how quantised models must be passed."""

    def __enter__(self) -> None:
        self.log = logging.getLogger("lm_eval.models.huggingface")
        self.level = self.log.level
        self.log.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self.log.setLevel(self.level)
