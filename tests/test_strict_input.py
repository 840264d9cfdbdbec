"""Whatever a user's file says: accepted and sound, or one line that names the file, the place and what is allowed."""

from __future__ import annotations

import pickle

import pytest

from ecr_bench import config
from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.evaluation.languages import FLORES, language
from ecr_bench.names import file_name, language_code, run_name
from ecr_bench.results.claims_file import load_claims
from ecr_bench.runner.plan import make_plan
from ecr_bench.strict_yaml import parse_yaml
from ecr_bench.yaml_files import parse_set
from tests.helpers.outside import CASES as CASES_FOLDER
from tests.helpers.outside import needs_cases

HEAD = "extends: tiny\nname: mine\n"
CASES = {
    "latin1": ("# Größe\n" + HEAD).encode("latin-1"),
    "utf16": HEAD.encode("utf-16"),
    "utf32": HEAD.encode("utf-32"),
    "nul": HEAD.encode() + b"tasks: [intent\0]\n",
    "control": HEAD.encode() + b'tasks: ["intent\\a"]\n',
    "surrogate": HEAD.encode() + b'tasks: ["\\ud800"]\n',
    "surrogate-key": HEAD.encode() + b'corpus: {options: {"\\ud800": 1}}\n',
    "duplicate-keys": HEAD + "cells: [{method: finetune}]\ncells: [{method: random}]\n",
    "duplicate-merge": HEAD + "finetune: &a {steps: 3}\npretrain: {<<: *a, <<: *a}\n",
    "merge-nothing": HEAD + "<<: null\n",
    "merge-value": HEAD + "<<: [1]\n",
    "merge-itself": "&a\n" + HEAD + "<<: *a\n",
    "merge-tagged-list": HEAD + "<<: !mine [{name: b}]\n",
    "merge-as-tag": HEAD + '? !!merge "a"\n: {name: b}\n',
    "merge-as-tag-of-a-list": HEAD + "? !!merge [a]\n: {name: b}\n",
    "tagged-key": HEAD + "!mine a: b\n",
    "list-in-a-list": "- [&a [*a]]\n",
    "duplicate-deep": HEAD + "sizes:\n  2x:\n    layers: 1\n    layers: 2\n",
    "alias-loop": HEAD + "corpus: &c {name: intents, options: {a: *c}}\n",
    "alias-list": HEAD + "tasks: &t [*t]\n",
    "alias-bomb": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{k}: &{k} [{', '.join(['*' + p] * 10)}]\n" for p, k in zip("abcdef", "bcdefg", strict=True)),
    "deep": HEAD + "corpus: {options: {a: " + "[" * 60 + "]" * 60 + "}}\n",
    "very-deep": HEAD + "corpus: {options: {a: " + "[" * 20_000,
    "key-number": HEAD + "sizes: {1: {layers: 1}}\n",
    "key-list": HEAD + "? [a]\n: b\n",
    "tag": HEAD + "tasks: !!python/name:os.system x\n",
    "binary": HEAD + "tasks: [!!binary aGk=]\n",
    "two-documents": HEAD + "---\nname: two\n",
    "huge": HEAD + f"corpus: {{rows: {'9' * 5000}}}\n",
    "large": HEAD + f"corpus: {{rows: {2**63}}}\n",
    "overflow": HEAD + "finetune: {learning_rate: 1e999}\n",
    "infinite-rate": HEAD + "finetune: {learning_rate: .inf}\n",
    "nan-option": HEAD + "corpus: {options: {x: .nan}}\n",
    "bool-steps": HEAD + "finetune: {steps: true}\n",
    "bool-rate": HEAD + "finetune: {learning_rate: true}\n",
    "fraction-steps": HEAD + "finetune: {steps: 4.5}\n",
    "text-steps": HEAD + "finetune: {steps: '4'}\n",
    "number-bool": HEAD + "geometry: {measure: 1}\n",
    "empty-sizes": HEAD + "cells: [{method: ecr, sizes: []}]\n",
    "empty-seeds": HEAD + "cells: [{method: ecr, seeds: []}]\n",
    "empty-cells": HEAD + "cells: []\n",
    "empty-pairs": HEAD + "scoring: {pairs: []}\n",
    "empty-tasks": HEAD + "tasks: []\n",
    "twice-precision": HEAD + "precisions: [fp32, fp32]\n",
    "twice-task": HEAD + "tasks: [intent, intent]\n",
    "twice-language": HEAD + "corpus: {languages: [en, en]}\n",
    "twice-seen": HEAD + "seen_languages: [en, en]\n",
    "twice-pair": HEAD + "scoring: {pairs: [ring, ring]}\n",
    "twice-size": HEAD + "cells: [{method: ecr, sizes: [1x, 1x]}]\n",
    "twice-seed": HEAD + "cells: [{method: ecr, seeds: [0, 0]}]\n",
    "negative-seed": HEAD + "cells: [{method: ecr, seeds: [-1]}]\n",
    "large-seed": HEAD + f"cells: [{{method: ecr, seeds: [{2**32}]}}]\n",
    "corpus-seed": HEAD + "corpus: {seed: -1}\n",
    "anchors-seed": HEAD + "anchors: {seed: -1}\n",
    "pretrain-seed": HEAD + f"pretrain: {{seed: {2**32}}}\n",
    "long-name": "extends: tiny\nname: " + "n" * 300,
    "store-name": "extends: tiny\nname: store\n",
    "store-case": "extends: tiny\nname: Store\n",
    "eval-name": "extends: tiny\nname: eval\n",
    "device-name": "extends: tiny\nname: con.x\n",
    "dot-name": "extends: tiny\nname: a.\n",
    "slash-name": "extends: tiny\nname: a/b\n",
    "size-name": HEAD + "sizes: {../x: {hidden_size: 64, layers: 1, heads: 1, intermediate_size: 64}}\n",
    "slash-language": HEAD + "corpus: {languages: [../x]}\n",
    "slash-seen": HEAD + "seen_languages: [../x]\n",
    "no-language": HEAD + "corpus: {languages: [English]}\n",
    "heads": HEAD + "sizes: {1x: {hidden_size: 66, heads: 4}}\n",
    "layer": HEAD + "geometry: {layer: 9}\n",
    "projection-layer": HEAD + "projection: {kind: hidden, layer: -5}\n",
    "accumulate": HEAD + "sizes: {1x: {accumulate: 17}}\n",
    "text-share": HEAD + "finetune: {batch_size: 1, text_share: 0.6}\n",
    "more-codes": HEAD + "control_tokens: {count: 17}\n",
    "cell-name": HEAD + "cells: [{method: ecr, set: {name: other}}]\n",
    "cell-device": HEAD + "cells: [{method: ecr, set: {device: cuda}}]\n",
    "extends-number": "extends: 3\nname: mine\n",
    "extends-list": "extends: [tiny]\nname: mine\n",
    "unknown-deep": HEAD + "sizes: {1x: {colour: red}}\n",
    "list": "- 1\n",
    "empty": "",
}  # fmt: skip


def _one_line(call, *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700 and message.isprintable(), message
    assert all(part in message for part in parts), message
    return message


@pytest.mark.parametrize("name", CASES)
def test_a_bad_experiment_is_one_line_that_names_the_file(tmp_path, name):
    content = CASES[name]
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    _one_line(lambda: make_plan(config.load(str(path))), "bad.yaml")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("duplicate-keys", ["'cells'", "line 3", "line 4"]),
        ("duplicate-deep", ["'sizes.2x.layers'", "line 5", "line 6"]),
        ("latin1", ["not UTF-8", ":1:"]),
        ("utf16", ["UTF-16"]),
        ("nul", ["NUL", ":3:"]),
        ("alias-loop", ["corpus.options.a"]),
        ("empty-sizes", ["cells.0.sizes", "must not be empty"]),
        ("negative-seed", ["cells.0.seeds.0", "greater than or equal to 0 and less than 4294967296 (got -1)"]),
        ("large-seed", ["cells.0.seeds.0", "greater than or equal to 0 and less than 4294967296"]),
        ("twice-precision", ["precisions", "'fp32' is there twice"]),
        ("infinite-rate", ["finetune.learning_rate", "finite"]),
        ("nan-option", ["corpus.options.x", "finite"]),
        ("bool-steps", ["finetune.steps", "valid integer", "True"]),
        ("long-name", ["name", "300", "100"]),
        ("store-case", ["name", "reserved", "store"]),
        ("slash-language", ["corpus.languages.0", "not a language code"]),
        ("heads", ["sizes.1x", "multiple of 2 x heads"]),
        ("unknown-deep", ["sizes.1x.colour", "hidden_size"]),
        ("extends-number", ["extends", "shipped"]),
        ("duplicate-merge", ["bad.yaml:4: pretrain: '<<' is there twice", "line 4", "a list"]),
        ("merge-nothing", ["bad.yaml:3: the file: '<<' takes a mapping"]),
        ("merge-value", ["bad.yaml:3: the file: '<<' takes a mapping"]),
        ("merge-itself", ["the file: holds itself"]),
        ("merge-tagged-list", ["the file: '<<' takes a mapping"]),
        ("merge-as-tag", ["bad.yaml:3: the file: the tag 'tag:yaml.org,2002:merge' of the key 'a' is not read here"]),
        ("merge-as-tag-of-a-list", ["the file: the key is a list or mapping"]),
        ("tagged-key", ["the file: the tag '!mine' of the key 'a' is not read here"]),
        ("list-in-a-list", ["bad.yaml:1: 0.0.0: holds itself"]),
        ("layer", ["geometry.layer", "9", "-3 to 2"]),
        ("text-share", ["finetune.text_share", "0.6", "labelled"]),
        ("more-codes", ["control_tokens.count", "17", "16"]),
        ("cell-name", ["cells.set", "name"]),
    ],
)
def test_the_line_names_the_place_and_what_is_allowed(tmp_path, name, parts):
    content = CASES[name]
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    _one_line(lambda: config.load(str(path)), *parts)


ELSEWHERE = {"diverges.yaml", "hyphen-size.yaml"}
"""Sound experiments, whose outcome other tests hold."""


@needs_cases
def test_every_shared_case_is_one_line():
    found = sorted(path for path in (CASES_FOLDER / "experiments").glob("*.yaml"))
    assert len(found) > len(ELSEWHERE)
    for path in found:
        if path.name in ELSEWHERE:
            assert make_plan(config.load(str(path))).cells
        else:
            _one_line(lambda path=path: make_plan(config.load(str(path))), path.name)


@pytest.mark.parametrize("content", ["latin1", "utf16", "nul", "duplicate-keys", "alias-loop", "deep", "empty"])
def test_claims_files_are_read_with_the_same_care(tmp_path, content):
    path = tmp_path / "claims.yaml"
    raw = CASES[content]
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    _one_line(lambda: load_claims(path), "claims.yaml")


def test_a_folder_or_nothing_in_place_of_a_file_is_one_line(tmp_path):
    (tmp_path / "x.yaml").mkdir()
    _one_line(lambda: config.load(str(tmp_path / "x.yaml")), "is a folder")
    _one_line(lambda: load_claims(tmp_path / "x.yaml"), "is a folder")
    _one_line(lambda: config.load(str(tmp_path / "none.yaml")), "no such file")
    _one_line(lambda: config.load(str(tmp_path / ("n" * 300 + ".yaml"))), "cannot be read")


def test_a_file_that_extends_itself_by_another_path_is_one_line(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: ./../" + tmp_path.name + "/a.yaml\nname: a\n")
    _one_line(lambda: config.load(str(tmp_path / "a.yaml")), "extends itself")


@pytest.mark.parametrize(
    "pair",
    ["finetune.steps=true", "finetune.steps=1.5", "finetune.learning_rate=.nan", "cells=[{method: ecr, seeds: [-1]}]",
     "precisions=[fp32, fp32]", "name=store", "seen_languages=[../x]", "anchors={k: 4, k: 5}", "tasks=&a [*a]",
     "finetune.steps=\udcff", "corpus.options.x=!!set {a}"],
)  # fmt: skip
def test_values_of_set_are_held_to_the_same(pair):
    _one_line(lambda: config.load("tiny").with_overrides(parse_set([pair])), "--set")


def test_a_key_is_set_once():
    _one_line(lambda: parse_set(["finetune.steps=1", "finetune.steps=2"]), "finetune.steps", "twice")


def test_yaml_is_read_by_the_core_schema_of_1_2():
    """Norwegian is a language, a rate may be written 1e-3, and a clock time is no number."""
    text = "\ufeffa: [no, on, 1:30, 010, 2026-01-01, 1e-3, 0x10, -3, 1.5, true, ~, 'true']"
    assert parse_yaml(text.removeprefix("\ufeff"), "x") == {
        "a": ["no", "on", "1:30", 10, "2026-01-01", 0.001, 16, -3, 1.5, True, None, "true"]
    }


def test_a_byte_order_mark_aliases_and_merge_keys_are_fine(tmp_path):
    path = tmp_path / "a.yaml"
    text = HEAD + "sizes:\n  1x: &small {hidden_size: 64, layers: 2, heads: 2, intermediate_size: 128}\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"  3x: {<<: *small, layers: 3}\n")
    sizes = config.load(str(path)).sizes
    assert (sizes["1x"].layers, sizes["3x"].layers, sizes["3x"].hidden_size) == (2, 3, 64)


def test_a_key_that_is_called_as_the_tag_of_merge_keys_is_a_key_of_its_own():
    text = 'a: &a {x: 1}\nb: {"tag:yaml.org,2002:merge": 2, <<: *a, "<<": 3}'
    assert parse_yaml(text, "x")["b"] == {"x": 1, "tag:yaml.org,2002:merge": 2, "<<": 3}


@pytest.mark.parametrize("code", ["en", "fil", "zh-Hans", "pt-BR", "deu_Latn", "zh-Hant-TW"])
def test_language_codes(code):
    assert language_code(code) == code


@pytest.mark.parametrize(
    "code", ["", "e", "../x", "en/us", "English", "EN", "en-", "en us", "en\n", "ａｂ", "-", "en_" + "a" * 9]
)
def test_what_is_no_language_code(code):
    with pytest.raises(ValueError, match="not a language code"):
        language_code(code)


@pytest.mark.parametrize("name", ["a", "quick", "A.b-c_9", "n" * 100, "stores", "console"])
def test_names_of_runs(name):
    assert run_name(name) == name


def test_labels_become_file_names_that_fit_and_differ():
    labels = ["ecr-1x-s0", "ECR-1x-s0", "a/b", "a_b", "..", "x" * 500, "x" * 501, "größe", "", "con/nul"]
    names = [file_name(label) for label in labels]
    assert names[0] == labels[0]
    assert len({name.lower() for name in names}) == len(labels)
    assert all(0 < len(name.encode()) < 200 and "/" not in name and not name.startswith(".") for name in names)


CODES = sorted({language(code) for code in FLORES} | {language(code) for code in ("deu", "jp", "zho_Hant", "acm_Arab")})


def test_an_error_is_one_line_whatever_it_quotes():
    error = UserError("file\r\nwith \x00, \x1b[31m, \udcff and größe 灯")
    assert str(error) == r"file with \x00, \x1b[31m, \udcff and größe 灯"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("code", CODES)
def test_the_codes_of_benchmarks_are_language_codes(code):
    assert language_code(code) == code


COMMANDS = [
    ["run", "tiny", "--out", "FILE"], ["run", "tiny", "--out", "FILE/x"], ["run", "tiny", "--out", "n" * 300],
    ["run", ""], ["run", "/"], ["run", "x.yaml"], ["run", "\udcff"], ["run", "tiny", "--set", ""],
    ["run", "tiny", "--workers", "0"], ["run", "tiny", "--workers", "nan"], ["run", "tiny", "--workers", "1.5"],
    ["run", "tiny", "--workers", "true"], ["run", "tiny", "--set", "=1"], ["run", "tiny", "--set", "name=x/y"],
    ["run", "tiny", "--plugin", "FILE"], ["run", "tiny", "--plugin", "/"], ["ablate", ""], ["ablate", "quick"],
    ["ablate", "absent", "--set", "finetune.steps=true"], ["ablate", "absent", "--set", "cells=[]"],
    ["board", "nothing"], ["board", "quick", "--out", "FILE"], ["claims", "x", "--claims", "/"], ["compare", "a", "b"],
    ["data", ""], ["data", "files"], ["data", "files", "--set", "path=/"], ["data", "files", "--set", "path=3"],
    ["data", "files", "--set", "path=~nobodyhere/a.jsonl"], ["data", "sib200", "--set", "path=~nobodyhere/a"],
    ["data", "intents", "--rows", "true"], ["data", "intents", "--languages", "EN"],
    ["data", "intents", "--teacher", "x"], ["eval", "/", "xcopa"], ["eval", "/tmp", "xcopa", "--seen", "../x"],
    ["export", "x", "FILE", "--run", "nothing"],
    ["generate", "/", "x"], ["score", "FILE", "all"], ["nothing"], [], ["run", "--nothing"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda a: " ".join(a)[:60].encode("ascii", "replace").decode())
def test_odd_command_lines_are_one_line_and_exit_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("x")
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    said = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and len(said) == 1 and said[0].startswith("ecr-bench: error: "), said
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]
