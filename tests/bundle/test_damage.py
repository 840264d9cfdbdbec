"""A bundle that was damaged, put together by hand or comes from a stranger: one line, nothing outside is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ecr_bench.bundle.files import META, Meta, read_meta, write_meta
from ecr_bench.bundle.use import open_bundle
from ecr_bench.ecr.codes import OracleCodes, ProjectionCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.errors import UserError
from ecr_bench.io import fingerprint
from ecr_bench.methods.models import create_model
from tests.helpers.damage import DAMAGES, damaged, link_out

META_OF = Meta(
    cell="ecr-1x-s0", arm="ecr-1x", seed=0, precision="fp32", stage="train/0123456789abcdef", run="quick",
    base_model=None, seen_languages=["en"], batch_tokens=1024, ecr_bench="0", commit=None, packages=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, size: Any, tokenizer: Any, anchors_and_projection: Any) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "whole"
    anchors, projection = anchors_and_projection
    tokens = ControlTokens(len(tokenizer), anchors.config.k, 1)
    model = create_model(size, tokenizer, seed=0)
    model.resize_token_embeddings(len(tokenizer) + tokens.size)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    source = ProjectionCodes(tokenizer, projection, anchors, 2)
    Conditioner(tokenizer, source, tokens, 2).save(folder / "conditioner")
    (folder / "README.md").write_text("# a bundle\n")
    write_meta(folder, META_OF)
    return folder


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def refused(call: Callable[[], Any], *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and len(message) < 600, message
    assert all(part in message for part in parts), message
    return message


def resealed(folder: Path, **changes: Any) -> None:
    """``bundle.json`` as somebody writes it who knows how; the hashes are those of the files as they are now."""
    write_meta(folder, META_OF)
    if changes:
        raw = {**json.loads((folder / META).read_text()), **changes}
        body = {key: value for key, value in raw.items() if key != "seal"}
        (folder / META).write_text(json.dumps({**body, "seal": fingerprint(body)}))


def test_a_whole_bundle_opens(bundle: Path) -> None:
    assert read_meta(bundle) == META_OF
    assert open_bundle(bundle).lm.conditioner.count == 2
    (bundle / ".gitattributes").write_text("what a hub puts beside")
    assert read_meta(bundle) == META_OF


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_that_was_damaged_is_named(damage: str, bundle: Path) -> None:
    names = files(bundle)
    assert {META, "model.safetensors", "config.json", "tokenizer.json", "conditioner/conditioner.json"} < set(names)
    assert len(names) > 9
    for name in names:
        with damaged(bundle / name, damage):
            refused(lambda: read_meta(bundle), name, str(bundle))
    read_meta(bundle)


QUICK = {"a byte flipped", "cut to half"}
SEALED = [name for name in DAMAGES if name not in ("deleted", "a folder")]


@pytest.mark.parametrize("damage", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SEALED])
def test_a_damaged_file_with_the_right_hash_is_one_line_or_a_sound_bundle(damage: str, bundle: Path) -> None:
    """Who can damage a file can write its hash as well."""
    for name in set(files(bundle)) - {META, "README.md"}:
        with damaged(bundle / name, damage):
            resealed(bundle)
            try:
                open_bundle(bundle)
            except UserError as error:
                assert str(bundle) in str(error) and "\n" not in str(error), (name, error)


def test_a_file_that_lies_outside_is_not_read(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    for name in ("../secret", str(tmp_path / "secret"), "conditioner/../../secret", "C:\\x", "", ".", "a\\..\\b"):
        resealed(bundle, files={name: "0" * 64})
        refused(lambda: read_meta(bundle), META, "no file of this folder")


@pytest.mark.parametrize("name", ["model.safetensors", "conditioner/conditioner.json", "config.json"])
def test_a_link_out_of_the_folder_is_not_followed(name: str, bundle: Path) -> None:
    link_out(bundle / name, bundle.parent / "outside")
    refused(lambda: read_meta(bundle), name, "a link out of this folder")
    resealed(bundle)
    refused(lambda: read_meta(bundle), name, "a link out of this folder")


def test_a_file_that_was_put_beside_is_not_read(bundle: Path) -> None:
    """transformers would take in an adapter, or another form of weights."""
    (bundle / "adapter_config.json").write_text("{}")
    refused(lambda: open_bundle(bundle), "adapter_config.json was not exported with it")


def test_code_in_a_bundle_is_not_run(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # transformers would ask
    mark = bundle.parent / "was-here"
    (bundle / "evil.py").write_text(f"import pathlib; pathlib.Path({str(mark)!r}).write_text('x')\n")
    for file in ("config.json", "tokenizer_config.json"):
        raw = json.loads((bundle / file).read_text())
        auto = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": ["evil.T", "evil.T"]}
        (bundle / file).write_text(json.dumps({**raw, "auto_map": auto}))
        for kind in (raw.get("model_type"), "evil"):
            if file == "config.json":
                (bundle / file).write_text(json.dumps({**raw, "auto_map": auto, "model_type": kind}))
            resealed(bundle)
            try:
                open_bundle(bundle)
            except UserError as error:
                assert "\n" not in str(error)
            assert not mark.exists()


def test_a_teacher_outside_of_the_bundle_is_not_asked(
    bundle: Path, anchors_and_projection: Any, tokenizer: Any
) -> None:
    path = bundle / "conditioner" / "conditioner.json"
    raw = json.loads(path.read_text())
    raw["source"] = {"kind": OracleCodes.kind, "count": 2, "teacher": {"name": "hf", "options": {"model": "/etc"}}}
    path.write_text(json.dumps(raw))
    resealed(bundle)
    refused(lambda: open_bundle(bundle), "from a teacher outside")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"precision": "fp8"}, "fp8"), ({"precision": 8}, "precision"), ({"batch_tokens": True}, "batch_tokens"),
        ({"batch_tokens": -1}, "batch_tokens"), ({"seen_languages": "en"}, "seen_languages"), ({"more": 1}, "more"),
        ({"format": 99}, "format"), ({"files": []}, "format"), ({"files": {"config.json": 3}}, "config.json"),
    ],
)  # fmt: skip
def test_what_bundle_json_may_say(change: dict[str, Any], part: str, bundle: Path) -> None:
    resealed(bundle, **change)
    refused(lambda: open_bundle(bundle), part)


@pytest.mark.parametrize("content", ["", "[]", "null", "{", "\0", "[" * 5000, '{"format": 3}', "3"])
def test_whatever_bundle_json_holds(content: str, bundle: Path) -> None:
    (bundle / META).write_text(content)
    refused(lambda: open_bundle(bundle), META)
