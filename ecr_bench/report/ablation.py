"""The files of an ablation: ``ablation.md``, ``png`` and ``html`` beside ``ablation.json``."""

from __future__ import annotations

from pathlib import Path

from ecr_bench.io import write_text
from ecr_bench.report.ablation_page import to_html, to_markdown
from ecr_bench.report.plots import draw, save_png, to_svg
from ecr_bench.results.ablation_schema import AblationResult


def draw_ablation(folder: Path, result: AblationResult) -> None:
    """Write the three files, each atomically."""
    figure = draw(result)
    save_png(figure, folder / "ablation.png")
    write_text(folder / "ablation.html", to_html(result, to_svg(figure)))
    write_text(folder / "ablation.md", to_markdown(result))
