"""The corpora by name, and the one way to build one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ecr_bench.errors import UserError
from ecr_bench.names import language_code
from ecr_bench.options import NoOptions, options_of, read_options
from ecr_bench.outside import data_counts
from ecr_bench.registry import Registry
from ecr_bench.sections import CorpusConfig

if TYPE_CHECKING:
    from ecr_bench.corpora.base import Corpus

CORPORA = Registry("corpus")
CORPORA.add("intents", "ecr_bench.corpora.intents:build", "voice commands in 16 languages, written from templates")
CORPORA.add("messages", "ecr_bench.corpora.messages:build", "interface messages in 21 languages, aligned by key")
CORPORA.add("sib200", "ecr_bench.corpora.sib200:build", "SIB-200 topics from a folder of yours, 7 classes")
CORPORA.add("xcopa", "ecr_bench.corpora.xcopa:build", "XCOPA from a folder of yours: cause or effect, 11 languages")
CORPORA.add("files", "ecr_bench.corpora.files:build", "your own JSONL, CSV or Parquet file")
CORPORA.add("hub", "ecr_bench.corpora.hub:build", "a Hugging Face dataset, by repository id or saved folder")


def languages_of(config: CorpusConfig) -> tuple[str, ...] | None:
    """The languages a corpus will have, where that is known without building it; UserError for wrong options.

    A corpus says it by a function ``check_config(config)`` beside what it registers.
    """
    check = getattr(sys.modules[CORPORA.get(config.name).__module__], "check_config", None)
    return None if check is None else tuple(check(config))


def options_identity(config: CorpusConfig) -> dict[str, Any]:
    """The options by what they stand for: ``path`` by what is in it.

    A corpus whose options name more says it by a function ``options_identity(config)`` beside what it registers.
    """
    own = getattr(sys.modules[CORPORA.get(config.name).__module__], "options_identity", None)
    if own is not None:
        return dict(own(config))
    path = config.options.get("path")
    return {**config.options, "path": data_counts(path)} if isinstance(path, str) else config.options


def build(config: CorpusConfig) -> Corpus:
    """Build the corpus ``config`` names.

    Raises UserError for an unknown name, option or language, a code that is no language's, a requested language without
    text, and a corpus without training rows.
    """
    from ecr_bench.corpora.base import Corpus

    builder = CORPORA.get(config.name)
    options = read_options(options_of(builder), config.options, "corpus.options", f"corpus {config.name!r}")
    corpus = builder(config) if options_of(builder) is NoOptions else builder(config, options)
    if not isinstance(corpus, Corpus):
        raise UserError(f"corpus {config.name!r} must give an ecr_bench.corpora.base.Corpus, not {corpus!r:.60}")
    found = corpus.card.languages
    for lang in found:
        try:
            language_code(lang)
        except ValueError as error:
            raise UserError(f"corpus {config.name!r}: {error}") from None
    for lang in config.languages:
        if lang not in found:
            raise UserError(
                f"corpus.languages: {config.name!r} has no text in {lang!r}: allowed are {', '.join(found) or 'none'}"
            )
    if not any(splits["train"] for splits in found.values()):
        raise UserError(
            f"corpus {config.name!r} has no training rows ({corpus.card.rows} rows in all): give it more rows or units"
        )
    return corpus
