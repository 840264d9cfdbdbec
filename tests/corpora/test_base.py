"""What all corpora share: splits, duplicates, caps, saving, and the registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora.base import Corpus, from_rows
from ecr_bench.corpora.card import print_card
from ecr_bench.corpora.draw import draw_splits, water_fill
from ecr_bench.corpora.registry import CORPORA, build
from ecr_bench.corpora.rows import RawRow, normalise
from ecr_bench.errors import UserError
from ecr_bench.types import CORPUS_COLUMNS
from tests.helpers.plain_corpus import assign_splits, cap_rows, deduplicate


def _rows(count: int, langs: tuple[str, ...] = ("en", "de")) -> list[RawRow]:
    return [RawRow(f"{lang} text {i}", lang, f"m{i}", "l", f"u{i}") for i in range(count) for lang in langs]


def _corpus(count: int = 20, rows: int = 60_000) -> Corpus:
    return from_rows(_rows(count), config=CorpusConfig(name="files", rows=rows), source="s", licence="l")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Turn  on!", "turn on"),
        ("ＴＵＲＮ on", "turn on"),
        ("Straße?", "strasse"),
        ("灯。", "灯"),
        ("a\tb\x00c", "a b c"),
    ],
)
def test_normalise_merges_what_differs_only_in_form(left: str, right: str) -> None:
    assert normalise(left) == right


def test_normalise_keeps_vowel_signs_and_numbers() -> None:
    assert normalise("कि") != normalise("का")
    assert normalise("5 minutes") != normalise("6 minutes")


def test_split_is_by_unit_in_the_promised_shares() -> None:
    splits = draw_splits({f"u{i}": "s" for i in range(100)}, seed=0)
    counts = [list(splits.values()).count(name) for name in ("train", "validation", "test")]
    assert counts == [80, 5, 15]


@given(st.integers(0, 60), st.integers(0, 5))
@settings(max_examples=40)
def test_split_does_not_depend_on_order_and_small_strata_have_a_test_unit(count: int, seed: int) -> None:
    strata = {f"u{i}": "s" for i in range(count)}
    drawn = draw_splits(strata, seed)
    assert drawn == draw_splits(dict(reversed(strata.items())), seed)
    assert ("test" in drawn.values()) == (count >= 3)
    assert not drawn or "train" in drawn.values()


def test_split_depends_on_the_seed() -> None:
    strata = {f"u{i}": "s" for i in range(50)}
    assert draw_splits(strata, 0) != draw_splits(strata, 1)


def test_test_units_spread_over_kinds_alike_in_all_strata() -> None:
    strata = {f"{s}/{k}/{i}": s for s in "ab" for k in range(10) for i in range(4)}
    kinds = {unit: unit.split("/")[1] for unit in strata}
    drawn = draw_splits(strata, 0, kinds)
    tested = {s: sorted(kinds[unit] for unit in strata if strata[unit] == s and drawn[unit] == "test") for s in "ab"}
    assert tested["a"] == tested["b"]
    assert len(set(tested["a"])) == len(tested["a"]) == 6


def test_duplicates_are_dropped_and_counted_and_test_keeps_its_text() -> None:
    rows = [
        RawRow("Turn on", "en", "m", "l", "u1", split="train"),
        RawRow("turn on!", "en", "m", "l", "u2", split="test"),
        RawRow("turn on.", "en", "m", "l", "u3", split="test"),
        RawRow("TURN ON", "nl", "m", "l", "u4", split="test"),
        RawRow("turn off", "en", "m", "l", "u5", split="train"),
    ]
    kept, dropped = deduplicate(rows)
    assert [(row.unit, row.split) for row in kept] == [("u2", "test"), ("u4", "test"), ("u5", "train")]
    assert (dropped.within, dropped.across) == (1, 1)


def test_given_splits_stay_and_a_unit_of_two_languages_has_one_split() -> None:
    rows = [*_rows(30), RawRow("x", "en", "m", "l", "own", split="validation")]
    split_of: dict[str, set[str]] = {}
    for row in assign_splits(rows, 0):
        split_of.setdefault(row.unit, set()).add(row.split)
    assert all(len(splits) == 1 for splits in split_of.values())
    assert split_of["own"] == {"validation"}


@given(
    st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 50), min_size=1, max_size=6), st.integers(0, 200)
)
@settings(max_examples=60)
def test_water_filling_is_fair_and_complete(capacity: dict[str, int], total: int) -> None:
    quota = water_fill(capacity, total)
    assert sum(quota.values()) == min(total, sum(capacity.values()))
    assert all(0 <= quota[key] <= capacity[key] for key in capacity)
    unfilled = [quota[key] for key in capacity if quota[key] < capacity[key]]
    assert not unfilled or max(quota.values()) - min(unfilled) <= 1


def test_cap_keeps_rows_aligned_across_languages() -> None:
    kept = cap_rows(_rows(100), 40, seed=0)
    meanings = {lang: {row.meaning for row in kept if row.lang == lang} for lang in ("en", "de")}
    assert meanings["en"] == meanings["de"]
    assert len(meanings["en"]) == 20


def test_saved_corpus_loads_equal_and_failures_name_the_file(tmp_path: Path) -> None:
    corpus = _corpus()
    corpus.save(tmp_path / "c")
    loaded = Corpus.load(tmp_path / "c")
    assert loaded.card == corpus.card
    assert loaded.dataset.to_dict() == corpus.dataset.to_dict()
    assert tuple(loaded.dataset.column_names) == CORPUS_COLUMNS
    with pytest.raises(UserError, match=r"card\.json"):
        Corpus.load(tmp_path / "none")
    (tmp_path / "c" / "rows.arrow").write_bytes(b"no arrow")
    with pytest.raises(UserError, match=r"rows\.arrow"):
        Corpus.load(tmp_path / "c")
    (tmp_path / "c" / "card.json").write_text(json.dumps({"rows": 1}))
    with pytest.raises(UserError, match="allowed keys"):
        Corpus.load(tmp_path / "c")


def test_card_counts_and_prints() -> None:
    corpus = _corpus()
    total = sum(sum(counts.values()) for counts in corpus.card.languages.values())
    assert (total, corpus.card.meanings, corpus.card.labels) == (40, 20, 1)
    console = Console(record=True, width=120)
    print_card(corpus, console)
    text = console.export_text()
    for part in (
        "en",
        "de",
        "train",
        "test",
        "licence: l",
        "0 within a split, 0 across",
        "en text",
        corpus.card.fingerprint,
    ):
        assert part in text


def test_fingerprint_follows_the_rows() -> None:
    assert _corpus(20).card.fingerprint == _corpus(20).card.fingerprint
    assert _corpus(20).card.fingerprint != _corpus(21).card.fingerprint


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "intent"}, "unknown corpus 'intent': allowed are files, hub, intents, messages"),
        ({"languages": ("en", "xx")}, "no language 'xx': allowed are cs, de"),
        ({"options": {"path": "x"}}, "corpus.options.path: corpus 'intents' has no such option: allowed are none"),
        ({"rows": 3}, "corpus.rows: 3"),
        ({"name": "messages", "languages": ("tlh",)}, "no language 'tlh'"),
    ],
)
def test_bad_configuration_is_one_clear_line(config: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(CorpusConfig.model_validate(config))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_registry_lists_every_corpus_with_help() -> None:
    assert set(CORPORA) == {"intents", "messages", "sib200", "xcopa", "files", "hub"}
    assert all(CORPORA.help[name] for name in CORPORA)
    assert all(callable(CORPORA.get(name)) for name in CORPORA)
