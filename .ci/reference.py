"""Pages of ``docs/reference`` that are read off the code: ``python .ci/reference.py`` writes, a test compares them."""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import docstring_parser
from pydantic import BaseModel

from ecr_bench.arguments import BY_PLACE, FOR_ALL
from ecr_bench.arm import Arm
from ecr_bench.cli import COMMANDS
from ecr_bench.config import Experiment
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.ecr.projection import PROJECTIONS
from ecr_bench.evaluation.records import SCHEMA
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.options import described, options_of
from ecr_bench.publish import DRAWN_FILES
from ecr_bench.results.files import FORMAT, RECORDS
from ecr_bench.results.format import FILES, RECORD_COLUMNS
from ecr_bench.schema import experiment_schema
from ecr_bench.section import Section
from ecr_bench.teachers.registry import TEACHERS

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
HEAD = "<!-- made by .ci/reference.py -->\n\n"


def pages() -> dict[str, str]:
    """File name -> content."""
    return {
        "configuration.md": HEAD + "\n".join(configuration()) + "\n",
        "registry.md": HEAD + "\n".join(registries()) + "\n",
        "commands.md": HEAD + "\n".join(commands()) + "\n",
        "results-format.md": HEAD + "\n".join(results_format()) + "\n",
        "experiment.schema.json": json.dumps(experiment_schema(), indent=1, ensure_ascii=False) + "\n",
    }


def configuration() -> Iterator[str]:
    yield "# Configuration\n"
    yield (
        "Every key of an experiment file. `extends` names another experiment whose settings hold where a file says "
        "nothing; `--set pretrain.steps=100` changes one from the command line. An editor that knows YAML schemas "
        "completes and checks them: the first line of a shipped file names "
        "[experiment.schema.json](experiment.schema.json).\n"
    )
    yield "## The experiment\n"
    yield from _table(Experiment)
    for name, field in Experiment.model_fields.items():
        for kind in _sections(field.annotation):
            yield f"\n## {_title(name, kind)}\n"
            if kind.__doc__:
                yield inspect.cleandoc(kind.__doc__).replace("``", "`") + "\n"
            yield from _table(kind)


def registries() -> Iterator[str]:
    yield "# Methods, modifiers, teachers, corpora, projections\n"
    yield "With their options. `ecr-bench methods --plugin mine.py` lists those of a plugin as well.\n"
    for registry in (METHODS, MODIFIERS, PROJECTIONS, TEACHERS, CORPORA):
        yield f"## {registry.kind.capitalize()}\n"
        for name in registry:
            owner = registry.get(name)
            yield f"### `{name}`\n"
            yield (registry.help.get(name) or inspect.cleandoc(owner.__doc__ or "").partition("\n")[0]).replace(
                "``", "`"
            ) + "\n"
            if options_of(owner).model_fields:
                yield from _table(options_of(owner))
                yield ""


def commands() -> Iterator[str]:
    yield "# Commands\n"
    yield (
        "Exit codes: 0 done, 2 bad input (one line says which), 3 a part failed or a file was changed, 130 and 143 "
        "interrupted.\n"
    )
    yield "| every command takes | |\n|---|---|"
    for option, text in FOR_ALL.items():
        yield f"| `-{option[0]}`, `--{option}` | {text} |"
    yield ""
    for name, function in sorted(COMMANDS.items()):
        text = docstring_parser.parse(function.__doc__ or "")
        yield f"## `ecr-bench {name}`\n"
        yield f"{text.short_description}\n"
        parameters = inspect.signature(function).parameters
        if parameters:
            yield "| argument | default | |\n|---|---|---|"
        told = {item.arg_name: " ".join((item.description or "").split()) for item in text.params}
        for key, parameter in parameters.items():
            given = parameter.default is parameter.empty or key == BY_PLACE
            shown = f"`{key}`" if given else f"`--{key.replace('_', '-')}`"
            values = {parameter.empty: "required", None: ""}
            default = values.get(parameter.default, f"`{parameter.default}`")
            yield f"| {shown} | {default} | {_cell(told[key])} |"
        yield ""


def results_format() -> Iterator[str]:
    yield "# Results format\n"
    yield (
        f"A finished run is a folder, `runs/NAME`, of format {FORMAT}. `Run.load` reads it and checks every file "
        "against its hash, `ecr-bench verify NAME` computes its numbers again from the records. A run of an older "
        "format is refused with the command that migrates it. JSON is UTF-8 without NaN: what was not measured is "
        "null. Accuracies and differences are on the scale from 0 to 1, intervals are 95 %. Beside these files lie "
        "`tensorboard/` (curves) and, after `ecr-bench items`, `items/` with sentences of the corpus: neither is "
        "published.\n"
    )
    yield "| file | holds | |\n|---|---|---|"
    for file in FILES:
        when = "" if file.always else "where there is one"
        yield f"| [`{file.name}`](#{_anchor(file.name)}) | {file.about} | {when} |"
    for name, about in DRAWN_FILES.items():
        yield f"| `{name}` | {about} | drawn from the others |"
    for file in FILES:
        yield f"\n## {file.name}\n"
        if file.name == RECORDS:
            yield "| column | type | |\n|---|---|---|"
            for column in SCHEMA:
                yield f"| `{column.name}` | {_cell(str(column.type))} | {_cell(RECORD_COLUMNS[column.name])} |"
        elif file.kind is not None:
            yield f"{'A list of' if file.many else 'One'} `{file.kind.__name__}`.\n"
            yield from _classes(file.kind)


def _classes(kind: type[Any], seen: set[type[Any]] | None = None) -> Iterator[str]:
    """A class that is written as JSON, and after it those that its fields hold."""
    seen = set() if seen is None else seen
    seen.add(kind)
    yield f"### {kind.__name__}\n"
    if kind.__doc__:
        yield inspect.cleandoc(kind.__doc__).replace("``", "`") + "\n"
    yield "| key | type | |\n|---|---|---|"
    hints = typing.get_type_hints(kind, include_extras=False)
    told = {item.arg_name: item.description or "" for item in docstring_parser.parse_from_object(kind).params}
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else list(kind.model_fields)
    for name in names:
        text = " ".join(told.get(name, "").split())
        yield f"| `{name}` | {_cell(_plain_type(hints[name]))} | {_cell(text)} |"
    yield ""
    for name in names:
        for inner in _written(hints[name]):
            if inner not in seen:
                yield from _classes(inner, seen)


def _written(annotation: Any) -> Iterator[type[Any]]:
    """Classes in a type that are written with their fields; an arm is written as its printed form."""
    if (
        isinstance(annotation, type)
        and annotation is not Arm
        and (issubclass(annotation, BaseModel) or is_dataclass(annotation))
    ):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _written(inner)


def _plain_type(annotation: Any) -> str:
    """A type as the reader of JSON sees it."""
    if annotation is Arm:
        return "arm"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return {type(None): "null", Any: "any"}.get(annotation, annotation.__name__)
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f'"{value}"' for value in typing.get_args(annotation))
    parts = [_plain_type(inner) for inner in typing.get_args(annotation) if inner is not Ellipsis]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return " or ".join(parts)
    origin = typing.get_origin(annotation)
    if origin is dict or origin is Mapping:
        return f"object: {parts[0]} to {parts[1]}"
    if parts:
        several = Ellipsis in typing.get_args(annotation) or origin is not tuple
        return f"list of {parts[0]}" if several else f"list of {len(parts)}: {', '.join(dict.fromkeys(parts))}"
    return str(annotation)


def _anchor(heading: str) -> str:
    return heading.replace(".", "").lower()


def _table(kind: type[Section]) -> Iterator[str]:
    yield "| key | type | default | |\n|---|---|---|---|"
    for option in described(kind):
        field = kind.model_fields[option.name]
        name, default, text = field.alias or option.name, option.default.removeprefix("default "), option.text
        type_ = option.kind
        if kind is Experiment and (below := list(_sections(field.annotation))):
            links = [
                f"[{title}](#{title.lower().replace(' ', '-')})" for title in (_title(name, part) for part in below)
            ]
            type_, default, text = "section", "", f"{text} {' or '.join(links)}".strip()
        yield f"| `{name}` | {_cell(type_)} | {_cell(default)} | {_cell(text)} |"


def _title(name: str, kind: type[Section]) -> str:
    """Heading of a section: its key, and which kind it is where a key takes several."""
    kinds = {"SizeConfig": " from scratch", "PretrainedSize": " pretrained"}
    return name + kinds.get(kind.__name__, "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("``", "`")


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _sections(inner)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, content in pages().items():
        (FOLDER / file).write_text(content, encoding="utf-8")
        print(FOLDER / file)
