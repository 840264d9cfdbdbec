# ruff: noqa: F811  # fixtures of another file go by their names
"""What is exchanged inside lm-eval while we score, and that lm-eval still uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jinja2
import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.run import quiet, replaced
from tests.evaluation.test_lm import NAMES, WINDOW, manager, model, tokenizer  # noqa: F401  # fixtures


def compiled_during(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Templates that jinja compiles while ``run`` runs."""
    sources: list[str] = []
    compile_ = jinja2.Environment.compile
    with monkeypatch.context() as patch:
        patch.setattr(
            jinja2.Environment, "compile", lambda self, s, *a, **k: sources.append(str(s)) or compile_(self, s, *a, **k)
        )
        run()
    return sources


def test_what_is_replaced_inside_lm_eval_is_what_it_uses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    manager: TaskManager,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fails when lm-eval moves what ``quiet`` relies on: its environment report, templates or progress bars."""
    lm = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW)
    found: dict[str, Any] = {}

    def run() -> None:
        found.update(lm_eval.simple_evaluate(lm, tasks=NAMES, task_manager=manager, bootstrap_iters=0))

    def run_quietly() -> None:
        with quiet():
            run()

    loud = compiled_during(run, monkeypatch)
    assert "pretty_env_info" in found and "git_hash" in found and capsys.readouterr().err
    before = lm_eval.evaluator.add_env_info, lm_eval.api.task.tqdm, lm_eval.models.huggingface.tqdm
    found.clear()
    silent = compiled_during(run_quietly, monkeypatch)
    assert "pretty_env_info" not in found and found["git_hash"] is None
    assert len(silent) == len(set(silent)) < len(loud) and set(silent) == set(loud)
    assert capsys.readouterr().err == ""
    assert (lm_eval.evaluator.add_env_info, lm_eval.api.task.tqdm, lm_eval.models.huggingface.tqdm) == before
    assert "from_string" not in vars(lm_eval.utils.env)


def test_a_name_that_lm_eval_no_longer_has_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"), replaced(lm_eval.evaluator, "no_such_name", None):
        pass
