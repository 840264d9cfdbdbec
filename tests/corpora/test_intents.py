"""The voice-command corpus, built from the installed template package."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict

import pytest

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora import words
from ecr_bench.corpora.base import Corpus
from ecr_bench.corpora.grammar import Conflict, Draw, Grammar, number_pool, tidy
from ecr_bench.corpora.intents import LANGUAGES, load_templates, split_templates
from ecr_bench.corpora.registry import build
from ecr_bench.corpora.rows import normalise

ROWS = 4800


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return build(CorpusConfig(rows=ROWS))


@pytest.fixture(scope="module")
def rows(corpus: Corpus) -> list[dict[str, str]]:
    return list(corpus.dataset)


def test_every_language_gives_its_share(corpus: Corpus) -> None:
    assert set(corpus.card.languages) == set(LANGUAGES)
    assert len(LANGUAGES) == 16
    assert corpus.card.rows == ROWS
    assert {sum(counts.values()) for counts in corpus.card.languages.values()} == {ROWS // 16}
    assert all(counts["test"] > 0 for counts in corpus.card.languages.values())


def test_same_seed_same_rows_and_other_seed_other_rows() -> None:
    def fingerprint(seed: int) -> str:
        return build(CorpusConfig(rows=300, languages=("en", "ja", "tr"), seed=seed)).card.fingerprint

    assert fingerprint(0) == fingerprint(0)
    assert fingerprint(0) != fingerprint(1)


def test_no_template_is_in_two_splits(rows: list[dict[str, str]]) -> None:
    splits = defaultdict(set)
    for row in rows:
        splits[row["unit"]].add(row["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_no_text_is_in_two_splits_or_twice_in_a_language(rows: list[dict[str, str]]) -> None:
    splits = defaultdict(set)
    for row in rows:
        splits[normalise(row["text"])].add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert max(Counter((row["lang"], normalise(row["text"])) for row in rows).values()) == 1


def test_texts_are_clean(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert row["text"] == " ".join(row["text"].split())
        assert not set(row["text"]) & set("{}<>[]|"), row["text"]


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_every_intent_of_three_templates_or_more_is_tested(lang: str) -> None:
    templates = load_templates(lang, seed=0)
    splits = split_templates(templates, lang, seed=0)
    by_label: dict[str, list[str]] = defaultdict(list)
    for unit, label in {template.unit: template.label for template in templates}.items():
        by_label[label].append(splits[unit])
    assert any(len(found) >= 3 for found in by_label.values())
    for label, found in by_label.items():
        assert ("test" in found) == (len(found) >= 3), label
        assert found.count("test") == (max(1, round(0.15 * len(found))) if len(found) >= 3 else 0)


def test_meaning_is_label_question_and_slots_and_crosses_languages(rows: list[dict[str, str]]) -> None:
    slots_of: dict[str, set[str]] = defaultdict(set)
    test_meanings = defaultdict(set)
    for row in rows:
        slots_of[row["meaning"]].add(row["slots"])
        assert row["meaning"].startswith(row["label"])
        for slot, value in json.loads(row["slots"]).items():
            assert f"{slot}={value}" in row["meaning"]
        if row["split"] == "test":
            test_meanings[row["lang"]].add(row["meaning"])
    assert all(len(found) == 1 for found in slots_of.values())
    for lang in ("de", "fr", "zh", "nl", "ru"):
        assert len(test_meanings[lang] & test_meanings["en"]) >= 10, lang


def test_canonical_names_are_english_and_the_words_are_not(rows: list[dict[str, str]]) -> None:
    for table, slot in ((words.AREAS, "area"), (words.FLOORS, "floor")):
        canonical = set(table["en"].split("|"))
        found = [row for row in rows if slot in json.loads(row["slots"])]
        assert {json.loads(row["slots"])[slot] for row in found} <= canonical
        for row in (row for row in found if row["lang"] == "zh"):
            word = {english: word for word, english in words.pairs(table, "zh")}[json.loads(row["slots"])[slot]]
            assert word in row["text"]


def test_word_tables_are_complete_and_distinct() -> None:
    for table in (words.AREAS, words.FLOORS, words.NAMES):
        assert set(table) == set(LANGUAGES)
        for lang in LANGUAGES:
            column = [word for word, _ in words.pairs(table, lang)]
            assert all(word == word.strip() and word for word in column)
            assert len(set(column)) == len(column), lang
    assert len(words.DOMAINS) == len(words.NAMES["en"].split("|"))
    assert {name for _, name in words.names_of("de", frozenset({"lock"}))} == {"front door", "back door"}


def _grammar(**lists: object) -> Grammar:
    rules = {"the": "(the|my)", "loop": "a <loop>", "wild": "play {song}"}
    return Grammar({"song": {"wildcard": True}, **lists}, rules, {"area": [("Küche", "kitchen")]}, seed=0)


def _written(grammar: Grammar, template: str, names: list[tuple[str, str]] | None = None) -> set[str]:
    write = grammar.compile(template)
    assert write is not None
    return {tidy(write(Draw(random.Random(i), str(i), names or []))) for i in range(60)}


def test_walk_writes_each_alternative_optional_rule_and_order() -> None:
    assert _written(_grammar(), "<the> [red] (lamp|light)") == {
        f"{the}{red} {lamp}" for the in ("the", "my") for red in ("", " red") for lamp in ("lamp", "light")
    }
    assert _written(_grammar(), "(on;now)") == {"on now", "now on"}


def test_what_cannot_be_written_is_pruned() -> None:
    grammar = _grammar()
    assert grammar.compile("play {song}") is None
    assert grammar.compile("<loop>") is None
    assert grammar.compile("<unknown> x") is None
    assert _written(grammar, "stop [<wild>|it]") == {"stop", "stop it"}


def test_slots_carry_canonical_values_and_ranges_their_multiplier() -> None:
    step = {"range": {"from": 0, "to": 100, "multiplier": -1}}
    colour = {"values": [{"in": "rot[e]", "out": "red"}]}
    write = _grammar(step=step, colour=colour).compile("{area} {colour} {step:volume_step}")
    assert write is not None
    draw = Draw(random.Random(0), "0", [])
    text = write(draw).split()
    assert draw.slots == {"area": "kitchen", "colour": "red", "volume_step": f"-{text[2]}"}
    assert text[0] == "Küche"
    assert text[1] in {"rot", "rote"}


def test_one_scene_says_the_same_in_two_languages() -> None:
    values = [{"in": word, "out": out} for word, out in (("rot", "red"), ("blau", "blue"), ("grün", "green"))]
    german = Grammar({"color": {"values": values}}, {}, {}, seed=0).compile("{color} bitte")
    english = Grammar({"color": {"values": [{"in": v["out"], "out": v["out"]} for v in values]}}, {}, {}, seed=0)
    write = english.compile("make it {color}")
    assert german is not None
    assert write is not None
    seen = set()
    for scene in range(30):
        left, right = Draw(random.Random(1), str(scene), []), Draw(random.Random(2), str(scene), [])
        german(left), write(right)
        assert left.slots == right.slots
        seen.add(left.slots["color"])
    assert seen == {"red", "blue", "green"}


def test_conflicting_values_and_missing_names_ask_for_another_draw() -> None:
    write = _grammar().compile("{name}")
    assert write is not None
    with pytest.raises(Conflict):
        write(Draw(random.Random(0), "0", []))
    with pytest.raises(Conflict):
        write(Draw(random.Random(0), "0", [("Lampe", "lamp")], {"name": "fan"}))


def test_endings_glued_to_a_slot_can_be_left_out() -> None:
    bare = Grammar({}, {}, {"area": [("mutfak", "kitchen")]}, seed=0, bare_slots=True)
    assert _written(bare, "{area}[(n|ın)][ki] [bütün] ışıklar") == {"mutfak ışıklar", "mutfak bütün ışıklar"}


def test_number_pools_lie_in_the_range_and_are_shared() -> None:
    pool = number_pool({"from": 1, "to": 100}, "minutes", 0)
    assert len(pool) == 12
    assert pool == number_pool({"from": 1, "to": 120}, "start_minutes", 0)
    assert all(10 <= n <= 24 for n in number_pool({"from": 10, "to": 24}, "temperature", 0))


def test_tidy_collapses_space_and_a_word_said_twice() -> None:
    assert tidy("  on the ground  floor floor , now ") == "on the ground floor, now"
