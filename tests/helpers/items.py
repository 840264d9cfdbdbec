"""Made-up items."""

from __future__ import annotations

from ecr_bench.types import Item


def some_items(count: int = 6) -> list[Item]:
    return [
        Item(
            f"i{i}", "slot", "fine", str(i), "en", "en", f"alarmen{i} lampen{i}", "which ?", ("red", "doorde4 x"), i % 2
        )
        for i in range(count)
    ]


def items_of_texts(sentences: list[str]) -> list[Item]:
    return [
        Item(f"i{i}", "slot", "fine", str(i), "en", "en", text, "which ?", ("red", "blue lamp"), i % 2)
        for i, text in enumerate(sentences[:24])
    ]
