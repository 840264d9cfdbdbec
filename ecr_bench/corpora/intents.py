"""Voice commands in 16 languages, written from the templates of the home-assistant-intents package.

A seeded random walk over hassil's expression trees writes the sentences. ``label`` is the intent,
``slots`` the values in canonical (language-independent) form, and ``meaning`` is label and slots
together with what a question asks for (any, all, which, how many), so that rows of different languages
with one meaning translate each other. ``unit`` is the template and the split is drawn by it, per
language and intent. Only *templates* are held out: words, slot values and meanings occur in all splits.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any

from ecr_bench.corpora import words
from ecr_bench.corpora.base import Corpus, Deduplicator, chosen_languages, finish
from ecr_bench.corpora.draw import draw_splits
from ecr_bench.corpora.grammar import Conflict, Draw, Grammar, Words, Writer, tidy
from ecr_bench.corpora.rows import RawRow
from ecr_bench.errors import UserError
from ecr_bench.sections import CorpusConfig

LANGUAGES = ("en", "de", "fr", "zh", "es", "it", "nl", "pt", "pl", "ru", "uk", "cs", "sv", "tr", "ja", "ko")
_FILES = {"zh": "zh-CN", "pt": "pt-BR"}
# Intents whose response key says what is asked; elsewhere it only words the answer.
_ASKING = {"HassGetState", "HassGetWeather", "HassClimateGetTemperature", "HassRespond"}
_SAME_QUESTION = {"any_short": "any", "which_person": "which", "current_temperature": "default"}
# Lists of words for a value that other templates of the same slots give as a number ("brightest").
_NAMED_VALUES = re.compile(r"\{(\w+_(?:level|names|half))\b")
# Names fit for a template that does not say which kind of device it takes.
_ANY_DEVICE = frozenset({"light", "switch", "fan", "media_player"})
# A template that wrote nothing new this many times running is taken as used up.
_PATIENCE = 12
# Share of an intent's turns that go to its test templates, which are 15 % of the templates.
_TEST_TURNS = 0.25
# Training templates start at one of this many scenes.
_TRAIN_SCENES = 24


@dataclass
class Template:
    """One sentence template, ready to write."""

    unit: str
    label: str
    kind: str
    """What it talks about, whatever the language: slot combination, question, device."""
    asks: str
    fixed_slots: dict[str, str]
    names: Words
    write: Writer
    first_scene: int = 0
    visits: int = 0
    misses: int = 0

    def next_scene(self) -> int:
        """Six scenes three times over, then the next six: few templates do not run ahead of many."""
        lap, step = divmod(self.visits, 6)
        self.visits += 1
        return self.first_scene + 6 * (lap // 3) + step


def check_config(config: CorpusConfig) -> tuple[str, ...]:
    """The languages it will have; UserError as for ``build``."""
    languages = chosen_languages(config, LANGUAGES)
    if config.rows < len(languages):
        raise UserError(
            f"corpus.rows: {config.rows} rows are too few for {len(languages)} languages: allowed is one each or more"
        )
    return languages


def build(config: CorpusConfig) -> Corpus:
    """Write at most ``config.rows`` distinct sentences, evenly over the languages.

    Raises UserError for an unknown language, or fewer rows than languages.
    """
    languages = check_config(config)
    dropped = Deduplicator()
    sources = {lang: sentences(lang, config.seed, dropped) for lang in languages}
    rows = fill_evenly(sources, config.rows)
    version = metadata.version("home-assistant-intents")
    source = f"home-assistant-intents {version} through hassil {metadata.version('hassil')}"
    return finish(rows, dropped, config=config, source=source, licence="Apache-2.0")


def fill_evenly(sources: dict[str, Iterator[RawRow]], total: int) -> list[RawRow]:
    """Take rows from each language in equal shares; what one cannot give, the others share."""
    taken: dict[str, list[RawRow]] = {lang: [] for lang in sources}
    left = total
    while sources and left:
        share = max(1, left // len(sources))
        for lang, source in list(sources.items()):
            got = list(itertools.islice(source, min(share, left)))
            taken[lang] += got
            left -= len(got)
            if len(got) < min(share, left + len(got)):
                del sources[lang]
    return [row for group in taken.values() for row in group]


def sentences(lang: str, seed: int, dropped: Deduplicator) -> Iterator[RawRow]:
    """Distinct sentences of one language, intents in turn, until nothing new turns up."""
    rng = random.Random(f"{seed}/walk/{lang}")
    templates = load_templates(lang, seed)
    splits = split_templates(templates, lang, seed)
    by_label: dict[str, Queues] = defaultdict(Queues)
    for template in rng.sample(templates, len(templates)):
        # Test templates of all languages write the same scenes, so that their meanings meet; training
        # templates start anywhere, for variety.
        held_out = splits[template.unit] == "test"
        template.first_scene = 0 if held_out else rng.randrange(_TRAIN_SCENES)
        by_label[template.label].put(template, held_out)
    written: set[tuple[str, str]] = set()
    while by_label:
        for label in _turns(by_label, rng):
            template, held_out = by_label[label].take(rng)
            row = _one(template, lang, splits[template.unit], rng, seed)
            fresh = row is not None and (row.unit, row.text) not in written
            template.misses = 0 if fresh else template.misses + 1
            if template.misses < _PATIENCE:
                by_label[label].put(template, held_out)
            if row is not None and fresh:
                written.add((row.unit, row.text))
                if dropped.add(row.text, lang, row.split):
                    yield row
        by_label = {label: queues for label, queues in by_label.items() if len(queues)}


def split_templates(templates: list[Template], lang: str, seed: int) -> dict[str, str]:
    """Unit -> split, drawn inside each intent; all languages hold out the same kinds of template where they can."""
    kinds = {template.unit: template.kind for template in templates}
    return draw_splits({template.unit: f"{lang}/{template.label}" for template in templates}, seed, kinds)


class Queues:
    """The templates of one intent in turn; those held out for the test split get a share of the turns.

    Without the share, an intent with a hundred templates would show each test template once or twice, and
    few meanings would meet across languages.
    """

    def __init__(self) -> None:
        self._held_out: deque[Template] = deque()
        self._others: deque[Template] = deque()

    def __len__(self) -> int:
        return len(self._held_out) + len(self._others)

    def put(self, template: Template, held_out: bool) -> None:
        (self._held_out if held_out else self._others).append(template)

    def take(self, rng: random.Random) -> tuple[Template, bool]:
        """The next template and whether it is held out."""
        held_out = bool(self._held_out) and (not self._others or rng.random() < _TEST_TURNS)
        return (self._held_out if held_out else self._others).popleft(), held_out


def _turns(by_label: dict[str, Queues], rng: random.Random) -> Iterator[str]:
    """Half of the turns go to every intent alike, half by number of templates: rare and rich ones both count."""
    labels = list(by_label)
    for label in labels + rng.choices(labels, [len(by_label[label]) for label in labels], k=len(labels)):
        if len(by_label[label]):
            yield label


def _one(template: Template, lang: str, split: str, rng: random.Random, seed: int) -> RawRow | None:
    draw = Draw(rng, f"{seed}/{template.next_scene()}", template.names, dict(template.fixed_slots))
    try:
        text = tidy(template.write(draw))
    except Conflict:
        return None
    if len(text) < 2:
        return None
    slots = dict(sorted(draw.slots.items()))
    meaning = f"{template.label}{template.asks}({', '.join(f'{slot}={value}' for slot, value in slots.items())})"
    return RawRow(text, lang, meaning, template.label, template.unit, json.dumps(slots, ensure_ascii=False), split)


def load_templates(lang: str, seed: int) -> list[Template]:
    """Parse and compile the templates of one language, those that need a wildcard left out."""
    path = resources.files("home_assistant_intents") / "data" / f"{_FILES.get(lang, lang)}.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    own = {"area": words.pairs(words.AREAS, lang), "floor": words.pairs(words.FLOORS, lang)}
    grammar = Grammar(raw["lists"], raw["expansion_rules"], own, seed, bare_slots=lang == "tr")
    result: list[Template] = []
    for label, intent in raw["intents"].items():
        for block in intent["data"]:
            asks = _asks(label, block)
            about = [block["metadata"]["slot_combination"], block.get("slots"), block.get("requires_context")]
            fixed = {slot: str(value) for slot, value in block.get("slots", {}).items()}
            for text in block["sentences"]:
                write = grammar.compile(text)
                if write is not None:
                    # The same template under two blocks or intents (open a cover, open a valve) is one unit.
                    unit = f"{lang}/{hashlib.sha256(text.encode()).hexdigest()[:10]}"
                    kind = json.dumps([label, asks, *about, _NAMED_VALUES.findall(text)])
                    names = words.names_of(lang, _domains(block, text))
                    result.append(Template(unit, label, kind, asks, fixed, names, write))
    return result


def _asks(label: str, block: dict[str, Any]) -> str:
    """What tells apart sentences of one intent with the same slots: the question, or 'all' against 'here'."""
    response = block["response"]
    if label in _ASKING:
        response = _SAME_QUESTION.get(response, response)
        return "" if response == "default" else f"[{response}]"
    everywhere = block["metadata"]["slot_combination"] == "domain_all" or response.endswith("_all")
    return "[all]" if everywhere else ""


def _domains(block: dict[str, Any], template: str) -> frozenset[str]:
    domains = block.get("requires_context", {}).get("domain")
    if domains == ["binary_sensor"] and "occupancy" in template:
        return frozenset({"occupancy"})
    return frozenset(domains) if domains else _ANY_DEVICE
