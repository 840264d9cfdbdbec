"""The item builders: sound options, right split, deterministic, files, surface baselines."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecr_bench.errors import UserError
from ecr_bench.items import intent, meaning, slot
from ecr_bench.items.files import read_items, read_task, write_items
from ecr_bench.items.pairs import pairs, parse_pair
from ecr_bench.items.registry import TASKS, build_items, task_name
from ecr_bench.items.surface import surface_baselines
from ecr_bench.types import CORPUS_COLUMNS, Item

SINGLE_TASKS = sorted(set(TASKS) - {"copa"})
"""All that can be asked about a corpus of commands; ``copa`` has its own (tests/corpora/test_xcopa.py)."""
LANGS = ("de", "en", "ru")
AREAS = {"en": "kitchen garden garage attic office hall", "de": "Küche Garten Werkstatt Dach Büro Flur"}
AREAS["ru"] = "кухня сад гараж чердак кабинет коридор"
LABELS = ("HassTurnOn", "HassTurnOff", "HassLightSet", "HassStartTimer", "HassPauseTimer", "HassSetVolume")


def corpus(seed: int = 0, rows: int = 700) -> pd.DataFrame:
    """Made-up sentences: word of the label, area, number; the canonical area is the English word."""
    rng = random.Random(seed)
    found: dict[str, dict[str, str]] = {}
    while len(found) < rows:
        lang, label, area, number = rng.choice(LANGS), rng.choice(LABELS), rng.randrange(6), rng.randrange(5, 60, 5)
        unit = rng.randrange(6)
        text = f"{label[4:].lower()[:6]}{lang} {unit * 'x'} {AREAS[lang].split()[area]} {number}"
        if text in found:
            continue
        slots = {"area": AREAS["en"].split()[area], "brightness": str(number), "domain": "light"}
        said = ", ".join(f"{name}={value}" for name, value in slots.items())
        split = ("test", "validation", "train", "train", "train", "train")[unit]
        found[text] = {
            "id": f"r{len(found):05d}",
            "text": text,
            "lang": lang,
            "meaning": f"{label}({said})",
            "label": label,
            "unit": f"{lang}/{label}/{unit}",
            "split": split,
            "slots": json.dumps(slots),
        }
    return pd.DataFrame(found.values(), columns=list(CORPUS_COLUMNS))


CORPORA = [corpus(seed) for seed in range(3)]
FRAME = CORPORA[0]


def make(task: str, split: str = "test", count: int = 15, seed: int = 0, **kwargs: object) -> list[Item]:
    """``build_items`` on the made-up corpus."""
    options = {"languages": LANGS, "pairs": pairs(LANGS, ["to-en", "from-en"]), **kwargs}
    frame = options.pop("rows", FRAME)
    return build_items(task, frame, split=split, count=count, seed=seed, **options)  # type: ignore[arg-type]


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(SINGLE_TASKS),
    st.sampled_from(["train", "validation", "test"]),
    st.integers(1, 30),
    st.integers(0, 99),
    st.integers(0, 2),
)
def test_items_are_sound(task: str, split: str, count: int, seed: int, data: int) -> None:
    frame = CORPORA[data]
    items = build_items(
        task, frame, split=split, languages=LANGS, count=count, seed=seed, pairs=pairs(LANGS, ["to-en", "from-en"])
    )
    rows = {row["text"]: row for row in frame.to_dict("records")}
    assert items
    assert len({item.item_id for item in items}) == len(items)
    for item in items:
        row = rows[item.text]
        assert (row["split"], row["lang"], row["meaning"]) == (split, item.lang, item.cluster)
        assert len(item.choices) == len(set(item.choices)) == 4
        assert 0 <= item.gold < 4
        assert not item.question.endswith(" ")
        assert item.prompt == f"{item.text}\n{item.question}"
        gold = item.choices[item.gold]
        if task in ("intent", "label"):
            assert gold == intent.readable(row["label"])
        elif task == "slot":
            name = item.question.removesuffix(":")
            assert name != "domain"
            assert json.loads(row["slots"])[name] == gold
        else:
            options = [rows[choice] for choice in item.choices]
            assert {(o["split"], o["lang"], o["label"]) for o in options} == {(split, item.target_lang, row["label"])}
            assert [o["meaning"] == item.cluster for o in options] == [i == item.gold for i in range(4)]
            assert len({o["meaning"] for o in options}) == 4
    most = pd.Series([task_name(item) for item in items]).value_counts()
    assert most.max() <= count


@pytest.mark.parametrize("task", SINGLE_TASKS)
def test_same_items_whatever_the_order(task: str) -> None:
    expected = make(task)
    assert make(task) == expected
    assert make(task, languages=LANGS[::-1], pairs=pairs(LANGS, ["to-en", "from-en"])[::-1]) == expected
    assert make(task, rows=FRAME.sample(frac=1, random_state=1)) == expected
    assert make(task, rows=Dataset.from_pandas(FRAME, preserve_index=False)) == expected
    assert make(task, seed=1) != expected


def test_a_language_keeps_its_items_without_the_others() -> None:
    for task in ("intent", "slot"):
        alone = make(task, languages=["ru"])
        assert alone == [item for item in make(task) if item.lang == "ru"]
    assert make("meaning", pairs=["ru-en"]) == [i for i in make("meaning") if task_name(i) == "ecr_meaning_ru-en"]


def test_gold_is_everywhere_alike() -> None:
    for task in SINGLE_TASKS:
        items = make(task, split="train", count=150)
        shares = np.bincount([item.gold for item in items], minlength=4) / len(items)
        assert abs(shares - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / len(items))


def test_intents_are_covered_evenly() -> None:
    counts = pd.Series([i.choices[i.gold] for i in make("intent", count=12) if i.lang == "de"]).value_counts()
    assert set(counts) == {2}


def test_confusion_sets_hold_what_talks_alike() -> None:
    sentences = {
        "HassPauseTimer": "pause the timer",
        "HassStartTimer": "start a timer",
        "HassStopTimer": "stop the timer",
        "HassTimerStatus": "timer status",
        "HassMediaNext": "play the next song",
        "HassMediaPause": "hold the song",
        "HassMediaPlay": "play the song",
        "HassMediaPrevious": "play the song before",
        "HassMediaStop": "song off",
    }
    frame = pd.DataFrame([(label, "en", text, "train") for label, text in sentences.items()])
    frame.columns = pd.Index(["label", "lang", "text", "split"])
    _, confusion_sets = intent.confusable(frame)
    assert {"Timer" in label for label in confusion_sets["HassStartTimer"]} == {True}
    assert len(confusion_sets["HassMediaNext"]) == 5


def test_every_confusion_set_has_four() -> None:
    similarity = np.random.default_rng(0).random((23, 23))
    groups = intent.group_by_four(similarity + similarity.T)
    assert sorted(itertools.chain(*groups)) == list(range(23))
    assert min(map(len, groups)) >= 4
    assert max(map(len, groups)) <= intent.LARGEST_SET


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("HassClimateGetTemperature", "climate get temperature"),
        ("setup/error_text", "setup error text"),
        ("Hassle", "hassle"),
        ("—", "—"),
    ],
)
def test_readable_names(label: str, name: str) -> None:
    assert intent.readable(label) == name


def test_names_that_collide_stay_labels() -> None:
    assert intent.readable_names(["a_b", "a-b", "c"]) == {"a_b": "a_b", "a-b": "a-b", "c": "c"}


def test_synonyms_never_meet() -> None:
    values = ("high", "low", "medium", "middle", "off", "top")
    assert slot.rivals(values, "fan_mode", "middle") == ("high", "low", "off")
    assert slot.rivals(values, "color", "middle") == ("high", "low", "medium", "off", "top")


def test_a_value_the_template_adds_is_not_asked() -> None:
    frame = FRAME.copy()
    fixed = frame["unit"].str.endswith("/0")
    frame.loc[fixed, "slots"] = [
        json.dumps({**json.loads(text), "area": "attic"}) for text in frame.loc[fixed, "slots"]
    ]
    assert {item.question for item in make("slot", rows=frame)} == {"brightness:"}


def test_number_options_hold_the_other_number_of_the_sentence() -> None:
    row = {"minutes": "20", "seconds": "45"}
    frame = FRAME.copy()
    frame["slots"] = json.dumps(row)
    frame["text"] = [f"{i} timer 20 45" for i in range(len(frame))]
    train = frame["split"] == "train"
    frame.loc[train, "slots"] = [
        json.dumps({"minutes": str(20 + i % 30), "seconds": str(20 + i % 30)}) for i in range(train.sum())
    ]
    for item in make("slot", rows=frame):
        assert {"20", "45"} <= set(item.choices)


def test_meaning_ignores_what_sentences_leave_out() -> None:
    one = meaning.stated_content("HassTurnOn(area=hall, device_class=blind, domain=cover)")
    assert one == meaning.stated_content("HassTurnOn(area=hall, device_class=shade, domain=cover)")
    assert one != meaning.stated_content("HassTurnOn(area=attic, device_class=shade, domain=cover)")
    fan = "HassClimateSetFanMode(fan_mode={})"
    assert meaning.stated_content(fan.format("middle")) == meaning.stated_content(fan.format("medium"))


def test_pairs() -> None:
    assert pairs(["ru", "en", "de"], ["to-en", "from-en"]) == ["de-en", "ru-en", "en-de", "en-ru"]
    assert pairs(["ru", "en", "de"], ["ring"]) == ["de-en", "en-ru", "ru-de"]
    assert pairs(["en"], ["ring", "to-en"]) == []
    assert parse_pair("zh-Hans-en", ["en", "zh-Hans"]) == ("zh-Hans", "en")
    with pytest.raises(UserError, match="language pair 'ru-xx'"):
        parse_pair("ru-xx", LANGS)
    with pytest.raises(UserError, match="from-en, ring, to-en"):
        pairs(LANGS, ["both"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "rhyme"}, "unknown task 'rhyme': allowed are copa, intent, label, meaning, slot"),
        ({"split": "dev"}, "unknown split 'dev': allowed are test, train, validation"),
        ({"languages": ["xx"]}, "unknown language 'xx': allowed are de, en, ru"),
        ({"count": 0}, "0 is too few"),
        ({"rows": FRAME.drop(columns="slots")}, "column 'slots' is missing"),
        ({"rows": FRAME.assign(label="one")}, "has 1 labels: needed are 4"),
        ({"task": "slot", "rows": FRAME.assign(slots="{}")}, "no slot has 4 values"),
        ({"task": "slot", "rows": FRAME.assign(slots="[1")}, "is not a JSON object"),
        ({"task": "meaning", "rows": FRAME.assign(meaning=FRAME["id"])}, "no meaning occurs in two languages"),
    ],
)
def test_bad_input_is_one_clear_line(change: dict[str, object], message: str) -> None:
    arguments = {"task": "intent", **change}
    with pytest.raises(UserError, match=message) as caught:
        make(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_files_round_trip(tmp_path: Path) -> None:
    items = [item for task in SINGLE_TASKS for item in make(task)]
    odd = Item("x", "intent", "coarse", "c", "de", "de", "a\u2028b", "intent:", ("a", "b"), 1)
    write_items(tmp_path / "items", [*items, odd])
    assert sorted(read_items(tmp_path / "items"), key=lambda i: i.item_id) == sorted(
        [*items, odd], key=lambda i: i.item_id
    )
    write_items(tmp_path / "items", items[:1])
    assert read_items(tmp_path / "items") == items[:1]
    assert {path.name for path in (tmp_path / "items").iterdir()} == {"index.json", f"{task_name(items[0])}.jsonl"}


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ecr-bench run"):
        read_items(tmp_path / "none")
    items = make("intent", count=2)
    write_items(tmp_path, items)
    with pytest.raises(UserError, match="it has ecr_intent_de, ecr_intent_en, ecr_intent_ru"):
        read_task(tmp_path, "ecr_intent_fr")
    path = tmp_path / "ecr_intent_de.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    for bad, message in (
        ("{", "not JSON"),
        ("{}", "must have the keys"),
        (lines[1].replace('"gold": ', '"gold": 9'), "gold 9"),
    ):
        path.write_text(lines[0] + "\n" + bad + "\n", encoding="utf-8")
        with pytest.raises(UserError, match=rf"ecr_intent_de\.jsonl:2: .*{message}"):
            read_task(tmp_path, "ecr_intent_de")


def item(text: str, choices: tuple[str, ...], gold: int, lang: str = "de", task: str = "slot") -> Item:
    """One item for the baselines."""
    return Item(f"{text}{gold}", task, "fine", "c", lang, lang, text, "area:", choices, gold)


def test_surface_baselines_by_hand() -> None:
    test = [
        item("im garten 25", ("garten", "haus", "dach", "hof"), 0),
        item("im haus", ("aaa", "bbb", "ccc", "ddd"), 2),
        item("auf 25", ("5", "25", "35", "40"), 1),
        item("на 30", ("10", "20", "40", "30"), 0, lang="ru"),
    ]
    train = [item("x", ("garten", "haus", "dach", "hof"), 3)]
    found = surface_baselines(test, train, {"de": "seen", "ru": "unseen"})["slot"]
    assert found["seen"]["chance"] == 0.25
    assert found["seen"]["copy"] == pytest.approx((1 + 0.25 + 1) / 3, abs=1e-4)
    assert found["seen"]["copy_numbers"] == 1
    assert found["seen"]["copy_words"] == pytest.approx(0.625)
    assert found["seen"]["length_longest"] == pytest.approx((1 + 0.25 + 1 / 3) / 3, abs=1e-4)
    assert found["seen"]["length_shortest"] == pytest.approx((0 + 0.25 + 0) / 3, abs=1e-4)
    assert found["seen"]["majority"] == pytest.approx((0 + 0.25 + 0.25) / 3, abs=1e-4)
    assert found["unseen"]["copy"] == 0
    assert set(surface_baselines(test, train)["slot"]) == {"all"}
    assert surface_baselines([], train) == {}


def test_consensus_finds_the_middle_one() -> None:
    middle = item("?", ("turn on the light", "turn on the lamp", "xyz light", "qqq"), 0)
    assert surface_baselines([middle], [])["slot"]["all"]["consensus"] == 1


def test_options_do_not_betray_the_answer() -> None:
    """Rules that never read the text stay near chance, on every task."""
    built = [item for task in SINGLE_TASKS for item in make(task, split="train", count=150)]
    for task, groups in surface_baselines(built, []).items():
        margin = 4 * np.sqrt(0.25 * 0.75 / sum(item.task == task for item in built))
        for rule in ("consensus", "length_shortest", "length_longest"):
            assert abs(groups["all"][rule] - 0.25) < margin, (task, rule)
