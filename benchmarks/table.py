"""The table in the terminal, ``speed.json`` and ``speed.md``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.harness import Result
from ecr_bench.io import read_json, write_json, write_text
from ecr_bench.runner.provenance import environment
from ecr_bench.source_code import installed_version

PEERS = ("faiss-cpu", "liger-kernel")
WIDTHS = (54, 30, 8, 15, 10, 6)


def circumstances(threads: int, device: str = "cpu", small: bool = False) -> dict[str, Any]:
    """Versions, hardware and how busy the machine is now: plain JSON."""
    found = environment()
    found["packages"] |= {name: installed_version(name) or "not installed, not measured" for name in PEERS}
    load = [round(load, 2) for load in os.getloadavg()]
    return {**found, "threads": threads, "device": device, "small": small, "load average": load}


def cells(result: Result) -> tuple[str, ...]:
    """What is printed of a result."""
    if result.need is None:
        need, met = "–", "–"
    else:
        need = f"{'≥' if result.at_least else '≤'} {result.need:.3g}x"
        met = "yes" if result.met else "NO"
    spread = f"{_number(result.low)}–{_number(result.high)}"
    return (result.what, result.peer, f"{_number(result.value)}x", spread, need, met)


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 2 else f"{value:.1f}"


class Printer:
    """A table that grows line by line, which a Rich table cannot."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._line(("what", "peer", "ratio", "spread", "must reach", "met"), "bold")

    def _line(self, texts: tuple[str, ...], style: str = "") -> None:
        left = "  ".join(f"{text:<{width}.{width}}" for text, width in zip(texts[:2], WIDTHS, strict=False))
        right = "  ".join(f"{text:>{width}}" for text, width in zip(texts[2:], WIDTHS[2:], strict=True))
        self.console.print(f"{left}  {right}", style=style, highlight=False, markup=False, soft_wrap=True)

    def add(self, result: Result) -> None:
        self._line(cells(result), {True: "green", False: "red", None: ""}[result.met])
        if result.wrong:
            self.console.print(f"  does not count: {result.wrong}", style="red", markup=False)


class Report:
    """Results by benchmark in ``folder``; written whole after every benchmark, so that a run can be resumed."""

    def __init__(self, folder: Path) -> None:
        self.json, self.markdown = folder / "speed.json", folder / "speed.md"
        self.parts: dict[str, Any] = read_json(self.json)["benchmarks"] if self.json.is_file() else {}

    def put(self, name: str, results: list[Result], failure: str, spent: float, where: dict[str, Any]) -> None:
        rows = [{**asdict(result), "met": result.met} for result in results]
        self.parts[name] = {"rows": rows, "failure": failure, "seconds": round(spent, 1), "environment": where}
        write_json(self.json, {"benchmarks": self.parts})
        write_text(self.markdown, self._markdown())

    def _markdown(self) -> str:
        lines = [
            "# Speed against named peers",
            "",
            "Written by `python -m benchmarks`; every number in [speed.json](speed.json). Ratios are medians of",
            "interleaved repeats in one process, with the smallest and the largest; what is measured how:",
            "[docs/speed.md](../../docs/speed.md). **NO** marks what is not reached.",
            "",
            "| what | peer | ratio | spread | must reach | met | beside |",
            "|---|---|---:|---:|---:|---|---|",
        ]
        for name, part in self.parts.items():
            for row in part["rows"]:
                texts = cells(Result(**{key: value for key, value in row.items() if key != "met"}))
                beside = ", ".join(f"{key} {value}" for key, value in row["beside"].items())
                beside += f" **does not count: {row['wrong']}**" if row["wrong"] else ""
                met = "**NO**" if row["met"] is False else texts[-1]
                lines.append("| " + " | ".join([*texts[:-1], met, beside]) + " |")
            if part["failure"]:
                lines.append(f"| {name} | – | – | – | – | – | not measured: {part['failure']} |")
        lines += [
            "",
            "| benchmark | seconds | load average | threads | device | date | commit |",
            "|---|---:|---|---:|---|---|---|",
        ]
        for name, part in self.parts.items():
            at = part["environment"]
            load = ", ".join(map(str, at["load average"]))
            how = f"{load} | {at['threads']} | {at['device']} | {at['date']} | {at['commit'] or '–'}"
            lines.append(f"| {name} | {part['seconds']} | {how} |")
        at = max((part["environment"] for part in self.parts.values()), key=lambda found: found["date"])
        versions = ", ".join(f"{name} {found}" for name, found in at["packages"].items())
        machine = f"{at['machine']['cores']} cores, {at['machine']['cpu']}, GPU: {at['machine']['gpu'] or 'none'}"
        lines += ["", f"{machine}. {versions}.", ""]
        return "\n".join(lines)
