"""The leak rule on the real prompts of public benchmarks: answers, labels and later text reach no control token."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.task import Task
from transformers import PreTrainedTokenizerFast

from ecr_bench.ecr.codes import ProjectionCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.ecr.cue import CUES, Cue, cue_for, cue_of
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import prompts_of
from ecr_bench.evaluation.public import public_tasks
from ecr_bench.evaluation.public_tasks import PUBLIC_TASKS, Field
from tests.conftest import WORDS
from tests.helpers.outside import DATA
from tests.helpers.public_sets import CODES, write_set

LATER = {"xwinograd": "sentence"}
"""Fields whose text is only in part common to all options: here up to the gap."""
texts = st.lists(st.sampled_from([*WORDS, "answer", "B"]), min_size=1, max_size=6).map(
    lambda words: " ".join(words) + "."
)


@pytest.fixture(scope="module")
def conditioner(tokenizer: PreTrainedTokenizerFast, anchors_and_projection: Any) -> Conditioner:
    anchors, projection = anchors_and_projection
    return Conditioner(
        tokenizer, ProjectionCodes(tokenizer, projection, anchors, 3), ControlTokens(len(tokenizer), 8), 3
    )


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    root = tmp_path_factory.mktemp("public")
    for name in CODES:
        write_set(root, name, 6)
    return {name: public_tasks([name], root)[0][0] for name in CODES}


def requests_of(task: Any, doc: dict[str, Any]) -> list[Any]:
    """What lm-eval asks a model about one document, made by its own prompt code."""
    context = task.fewshot_context(doc, num_fewshot=0)
    return task.construct_requests(doc, context, metadata=(task.task_name, 0, 1))


def control_tokens(conditioner: Conditioner, task: Task, doc: dict[str, Any]) -> list[list[int]]:
    """Control tokens of each option."""
    return conditioner.control_tokens(prompts_of(requests_of(task, doc)))


def drawn(data: st.DataObject, kind: Field) -> Any:
    return data.draw(st.sampled_from(kind)) if isinstance(kind, tuple) else data.draw(texts)


def changed(data: st.DataObject, name: str, doc: dict[str, Any]) -> dict[str, Any]:
    """``doc`` with every field that is not declared visible drawn anew or exchanged with another option."""
    public, cue = PUBLIC_TASKS.get(name), cue_for(PUBLIC_TASKS.get(name).prefix)
    assert cue is not None
    hidden = [field for field in public.fields if field not in cue.fields]
    other = {field: drawn(data, public.fields[field]) for field in hidden}
    options = [field for field in hidden if public.fields[field] is not None and isinstance(doc[field], str)]
    options = [field for field in options if not isinstance(public.fields[field], tuple)]
    if data.draw(st.booleans()):
        other |= dict(zip(options, data.draw(st.permutations([doc[field] for field in options])), strict=True))
    if name in LATER:
        other[LATER[name]] = doc[LATER[name]].partition("_")[0] + "_ " + data.draw(texts)
    return {**doc, **other}


def drawn_document(data: st.DataObject, name: str, task: Task) -> dict[str, Any]:
    """A document of the set with other text in its visible fields."""
    doc = dict(data.draw(st.sampled_from(list(task.eval_docs))))
    cue = cue_for(task.task_name)
    assert cue is not None
    for field in cue.fields:
        doc[field] = f"{data.draw(texts)} _ {data.draw(texts)}" if name in LATER else data.draw(texts)
    return doc


@pytest.mark.parametrize("name", list(CODES))
def test_no_answer_label_or_later_text_reaches_a_control_token(
    name: str, tasks: dict[str, Task], conditioner: Conditioner
) -> None:
    task = tasks[name]

    @settings(max_examples=60)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        doc = drawn_document(data, name, task)
        other = changed(data, name, doc)
        tokens = [*control_tokens(conditioner, task, doc), *control_tokens(conditioner, task, other)]
        assert len(tokens) == 2 * PUBLIC_TASKS.get(name).options
        assert all(row == tokens[0] for row in tokens)

    holds()


LEAKS = {
    "xcopa": Cue(("premise", "choice1")),
    "xwinograd": Cue(("sentence",)),
    "xnli": Cue(("premise", "hypothesis")),
    "belebele": Cue(("flores_passage", "question", "mc_answer1")),
    "global_mmlu": Cue(("question", "option_a")),
    "multiblimp": Cue(("sen",)),
}


@pytest.mark.parametrize("name", list(LEAKS))
def test_a_leak_would_be_found(
    name: str, tasks: dict[str, Task], conditioner: Conditioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same comparison fails for a table that lets control tokens see too much."""
    prefix = PUBLIC_TASKS.get(name).prefix
    declared = CUES[prefix]
    differing = 0
    for doc in tasks[name].eval_docs:
        other = dict(doc)
        for field in set(LEAKS[name].fields) - set(declared.fields):
            other[field] = "blue garden nine."
        if name in LATER:
            other["sentence"] = other["sentence"].partition("_")[0] + "_ blue garden nine."
        monkeypatch.setitem(CUES, prefix, LEAKS[name])
        differing += control_tokens(conditioner, tasks[name], doc) != control_tokens(conditioner, tasks[name], other)
        monkeypatch.setitem(CUES, prefix, declared)
        assert control_tokens(conditioner, tasks[name], doc) == control_tokens(conditioner, tasks[name], other)
    assert differing


@pytest.mark.parametrize("name", list(CODES))
def test_what_may_be_seen_is_seen(name: str, tasks: dict[str, Task], conditioner: Conditioner) -> None:
    """Otherwise the properties above would hold of control tokens that look at nothing."""
    found = {tuple(control_tokens(conditioner, tasks[name], doc)[0]) for doc in tasks[name].eval_docs}
    null = (conditioner.tokens.null_id,) * 3  # type: ignore[union-attr]
    assert found == {null} if name == "multiblimp" else len(found) > 1 and null not in found


@pytest.mark.parametrize("name", list(CODES))
def test_the_visible_text_is_a_piece_of_the_prompt(name: str, tasks: dict[str, Task]) -> None:
    """So that ``codes-only`` can take it out; where the options hold the text, all begin with it."""
    public = PUBLIC_TASKS.get(name)
    for doc in tasks[name].eval_docs:
        cue = cue_of(tasks[name].task_name, doc) or ""
        for request in requests_of(tasks[name], doc):
            context, option = request.args
            if public.text_in_options:
                assert context == "" and option.strip().startswith(cue)
            else:
                assert cue and cue in context


@pytest.mark.parametrize("name", ["xcopa", "sib200"])
def test_exchanged_answers_of_the_real_sets_change_nothing(name: str, conditioner: Conditioner) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name}: the real {name} files are not here")
    rng = random.Random(0)
    (task,), _ = public_tasks([f"{name}_th"], DATA, limit=60)
    docs = list(task.eval_docs)
    for doc in docs:
        donor = rng.choice(docs)
        hidden = {"xcopa": ("choice1", "choice2", "label", "question"), "sib200": ("category",)}[name]
        other = {**doc, **{field: donor[field] for field in hidden}}
        tokens = [*control_tokens(conditioner, task, doc), *control_tokens(conditioner, task, other)]
        assert all(row == tokens[0] for row in tokens)


def test_a_document_without_the_declared_field_is_one_line() -> None:
    with pytest.raises(UserError, match=r"xcopa_it: its documents have no field 'premise'.* they have question, text"):
        cue_of("xcopa_it", {"text": "lamp", "question": "why"})
