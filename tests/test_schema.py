"""The schema that editors read: it takes what ``load`` takes, and names what it refuses."""

from __future__ import annotations

import pytest
import yaml
from jsonschema import Draft202012Validator

from ecr_bench.schema import experiment_schema
from tests.helpers.outside import ROOT

FILES = sorted(path for path in (ROOT / "baselines").glob("*.yaml") if path.stem != "claims")


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = experiment_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_experiments_fit(validator, path) -> None:
    assert not [error.message for error in validator.iter_errors(yaml.safe_load(path.read_text("utf-8")))]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"pretrain": {"step": 3}}, ["pretrain"]),
        ({"pretrain": {"steps": "many"}}, ["pretrain", "steps"]),
        ({"finetune": {"text_share": 1.5}}, ["finetune", "text_share"]),
        ({"precisions": ["fp8"]}, ["precisions", 0]),
        ({"options": {"lora": {"ranks": 3}}}, ["options", "lora"]),
        ({"cells": [{"sizes": ["1x"]}]}, ["cells", 0]),
        ({"speed": 1}, []),
    ],
)
def test_what_load_refuses_is_underlined(validator, change, where) -> None:
    (error,) = validator.iter_errors({"name": "mine", "extends": "tiny", **change})
    assert list(error.absolute_path) == where


def test_options_of_methods_have_their_help(validator) -> None:
    schema = validator.schema
    dropout = schema["$defs"][schema["properties"]["options"]["properties"]["dropout"]["$ref"].rpartition("/")[2]]
    assert "Probability that the text is hidden" in dropout["properties"]["text"]["description"]
