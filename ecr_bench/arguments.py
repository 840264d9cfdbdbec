"""From typed functions to a command line: one subcommand each, options read off signature and docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

import docstring_parser
from jsonargparse import ArgumentParser

from ecr_bench import __version__
from ecr_bench.errors import UserError

BY_PLACE = "experiment"
"""The one parameter that is given by place although it has a default; all without a default are."""

FOR_ALL = {
    "quiet": "print results and errors alone, no progress",
    "verbose": "print what libraries log and warn of as well, and where an error was raised",
}
"""Options of every command, long and by their first letter -> what they do."""


def command_parser(commands: Mapping[str, Callable[..., None]]) -> ArgumentParser:
    """One subcommand per function, its options read off the signature and the docstring."""
    parser = _Parser(prog="ecr-bench", description="Does ECR let a 1x multilingual language model beat a 3x one?")
    parser.add_argument("--version", action="version", version=f"ecr-bench {__version__}")
    group = parser.add_subcommands(dest="command")
    for name, function in commands.items():
        summary = (function.__doc__ or "").splitlines()[0]
        sub = _Parser(description=summary)
        described = docstring_parser.parse(function.__doc__ or "").params
        texts = {item.arg_name: item.description or "" for item in described}
        hints = get_type_hints(function)
        for parameter in inspect.signature(function).parameters.values():
            _add_argument(sub, parameter, hints[parameter.name], texts[parameter.name])
        for option, text in FOR_ALL.items():
            sub.add_argument(f"-{option[0]}", f"--{option}", action="store_true", help=text)
        group.add_subcommand(name, sub, help=summary)
    return parser


def _add_argument(parser: ArgumentParser, parameter: inspect.Parameter, kind: Any, text: str) -> None:
    """Lists may be given as ``--set a=1 b=2`` or by repeating the option; what must be given is given by place."""
    option, default = "--" + parameter.name.replace("_", "-"), parameter.default
    if kind == (list[str] | None):
        parser.add_argument(option, nargs="+", action="extend", type=str, help=text)
    elif kind == list[str]:
        parser.add_argument(parameter.name, nargs="+", type=str, help=text)
    elif kind is bool:
        parser.add_argument(option, action="store_true", help=text)
    elif default is parameter.empty:
        parser.add_argument(parameter.name, type=kind, help=text)
    elif parameter.name == BY_PLACE:
        parser.add_argument(parameter.name, type=kind, nargs="?", default=default, help=text)
    else:
        parser.add_argument(option, type=kind, default=default, help=text)


class _Parser(ArgumentParser):
    """Errors become a UserError: one line, exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        text = " ".join(str(message).split())
        # jsonargparse explains a wrong type at length; the option, the type and the value are enough
        if found := re.search(r'Parser key "(\w+)".*?(int|float|Path).*(?:Given|Got) value: (.*)', text):
            text = f"--{found[1].replace('_', '-')} {found[3]}: must be of type {found[2]}"
        raise UserError(f"{text} (see ecr-bench --help)")


def check_characters(arguments: Sequence[str]) -> None:
    """Of who calls from Python: no system hands on a NUL, and no path holds one."""
    for argument in arguments:
        if "\0" in argument:
            raise UserError(f"{argument!r:.80}: an argument cannot hold the character NUL")
