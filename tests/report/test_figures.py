"""Figures by name: what they draw, in words and in marks; as small SVG, as a file, as a matplotlib figure."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ecr_bench.errors import UserError
from ecr_bench.report.drawing import PALETTE, Drawing, Key, Plot, icon, palette_css, save
from ecr_bench.report.figures import FIGURES, arm_styles, drawing_of, figure, figure_of
from ecr_bench.report.measure_figures import scale_of
from ecr_bench.report.page import render_page
from ecr_bench.report.plots import Curve, DotRow, Level, Mark, Scale, curves, dots, scatter
from ecr_bench.run import Run
from tests.helpers.page_sample import EVIL, sample_run
from tests.helpers.world import LEVELS, make, run_of

DRAWN = (
    "differences", "controls", "precision-differences", "accuracy", "languages", "precision", "ablation", "measures",
    "measures-over-steps", "training", "pretraining",
)  # fmt: skip


@pytest.fixture(scope="module")
def run() -> Run:
    return sample_run()


class Reader(HTMLParser):
    """Tags with attributes and text, and whether every element was closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.stack: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def one(panel: Plot) -> str:
    ((_, svg),) = Drawing("d", (panel,)).svgs("d")
    return str(svg)


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_draws_from_a_run(run: Run, name: str) -> None:
    made = run.figure(name)
    assert isinstance(made, Figure) and all(axes.get_lines() or axes.artists for axes in made.axes)
    drawing = drawing_of(run, name)
    assert len(made.axes) == len(drawing.panels) > 0 and all(panel.words for panel in drawing.panels)
    assert FIGURES.help[name].endswith(".")


def test_the_list_of_figures_is_whole(run: Run) -> None:
    assert set(FIGURES) == set(DRAWN)
    with pytest.raises(UserError, match=r"unknown figure 'pie': allowed are ablation, accuracy"):
        run.figure("pie")
    with pytest.raises(UserError, match="'Ablation': this run has nothing to draw"):
        run_of(make({"finetune-1x": 0.5}, items=3)).figure("ablation")


def marks(axes: object) -> list[tuple[float, float]]:
    """(x, y) of the points of a plot."""
    lines = [line for line in axes.get_children() if isinstance(line, Line2D) and line.get_marker() not in ("None", "")]  # type: ignore[attr-defined]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]  # type: ignore[arg-type, index]


def test_differences_are_the_boards_for_the_question_every_rival_and_every_control(run: Run) -> None:
    axes = figure_of(run, "differences").axes[0]
    wanted = {
        str(c.b): 100 * c.difference
        for c in run.board.contrasts
        if (str(c.a), c.group, c.task, c.precision, c.precision_b) == ("ecr-1x", "unseen", "all", "fp32", "fp32")
        and c.family in ("headline", "rivals", "controls", "upper bound")
    }
    names = [text.get_text() for text in axes.get_yticklabels()]
    whole = [next(one for one in wanted if one.startswith(name.removesuffix("…"))) for name in names]
    assert whole[0] == "finetune-3x" and set(whole) == set(wanted) and len(whole) == 8
    assert {whole[round(y)]: x for x, y in marks(axes)} == pytest.approx(wanted)


def test_plain_models_of_other_sizes_stand_behind_the_question() -> None:
    parameters = {"1x": 10**6, "3x": 3 * 10**6, "9x": 9 * 10**6}
    run = run_of(make(LEVELS | {"finetune-9x": 0.55}, precisions=("fp32",), items=20, parameters=parameters))
    drawing = figure_of(run, "differences")
    names = [text.get_text() for text in drawing.axes[0].get_yticklabels()]
    assert names[:2] == ["finetune-3x", "finetune-9x"] and "ecr-1x" not in names


def test_one_accuracy_is_one_mark_and_a_name_with_mathematics_in_it_is_text() -> None:
    panel = dots("t", "w", [DotRow("a $x_{1$ 漢"), DotRow("b", (Mark(0.5, 1, title="half"),))], Scale(0, 1), "x")
    assert "a $x_{1$ 漢" in one(panel) and one(panel).count("<circle") == 1


def test_svg_is_small_escaped_described_and_without_styles() -> None:
    row = DotRow(
        EVIL, (Mark(0.5, 1, (0.0, 1.0), title=EVIL), Mark(1.0, 2, shape=2), Mark(0.7, 3, hollow=True, shape=1))
    )
    svg = one(dots(EVIL, f"words {EVIL}", [DotRow("head"), row], Scale(0.0, 1.0), "points", [Level(0.5)]))
    reader = Reader(svg)
    assert reader.stack == [] and {tag for tag, _ in reader.found} <= {
        "svg",
        "title",
        "desc",
        "path",
        "circle",
        "text",
        "g",
    }
    assert not any({"style", "clip-path", "href", "xlink:href"} & set(attributes) for _, attributes in reader.found)
    root = reader.found[0][1]
    ids = [attributes["id"] for _, attributes in reader.found if "id" in attributes]
    assert root["role"] == "img" and (root["aria-labelledby"] or "").split() == ids and f"words {EVIL}" in reader.text
    colours = {a[key] for _, a in reader.found for key in ("fill", "stroke") if key in a}
    assert {"var(--s1)", "var(--s2)", "var(--s3)", "var(--bg)"} <= colours and not any("#" in str(c) for c in colours)
    assert len(svg) < 4000


def test_circle_lies_in_the_middle_of_its_interval() -> None:
    svg = one(dots("t", "w", [DotRow("r", (Mark(0.5, 1, (0.25, 0.75)),))], Scale(0.0, 1.0), "x", [Level(0.5)]))
    circle = re.search(r'<circle cx="([\d.]+)"', svg)
    low, high = re.search(r'd="M([\d.]+) [\d.]+L([\d.]+) [\d.]+"[^>]*var\(--s1\)', svg).groups()  # type: ignore[union-attr]
    assert circle and float(circle[1]) == pytest.approx((float(low) + float(high)) / 2, abs=0.11)


def test_curves_leave_out_what_a_log_axis_cannot_show_and_keep_single_points() -> None:
    line = Curve(((1.0, 0.0), (2.0, 4.0), (3.0, 8.0)), 1, "a")
    svg = one(curves("t", "w", [line, Curve(((2.0, 5.0),), 2, "b")], "step", log=True))
    drawn = re.findall(r'd="([^"]*)"[^>]*stroke="var\(--s1\)"', svg)
    assert [len(re.findall("[ML]", path)) for path in drawn] == [2] and svg.count("<circle") == 1
    assert one(curves("t", "w", [Curve(((1.0, 0.0),), 1)], "step", log=True))  # nothing left to draw


def test_axes() -> None:
    assert Scale.around([0.0, 1.0], margin=0.1) == Scale(-0.1, 1.1) and Scale.around([]).low < Scale.around([]).high
    assert Scale.around([float("nan"), 3.0], margin=0.1) == Scale(2.7, 3.3)
    inf = float("inf")
    assert Scale.around_logs([0.0, 1.0, inf, 100.0]) == Scale.around_logs([1.0, 100.0])
    assert 0 < Scale.around_logs([inf, float("nan")]).low < Scale.around_logs([]).high
    assert scale_of([5.0, 2e18], []).log and not scale_of([5.0, 20.0], []).log
    assert not scale_of([-5.0, 2e18], []).log and not scale_of([1e-9, 1.0], [0.5]).log
    assert Scale.of_shares([0.01, 1.0]) == Scale(0.0, 1.0, percent=True)
    assert Scale(0, 1, percent=True).label(0.2) == "20" and Scale(-2, 2).label(-1) == "\N{MINUS SIGN}1"
    ticks = one(
        scatter("t", "w", [[(1.0, Mark(0.5)), (100.0, Mark(0.6))]], Scale.around_logs([1, 100]), Scale(0, 1), "MB")
    )
    assert all(f">{text}<" in ticks for text in ("1", "2", "5", "10", "50", "100"))


def test_equal_runs_are_equal_files_in_every_form(run: Run, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "a.png", "b.png"):
        save(figure_of(run, "differences"), tmp_path / name)
    for kind in ("svg", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    text = (tmp_path / "a.svg").read_text()
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("width") == "1080"
    assert root.get("font-size") == "11px"  # what places were measured for: no page around it says so
    assert "prefers-color-scheme:dark" in text
    assert "finetune-3x" in "".join(root.itertext())  # text stays text
    with pytest.raises(UserError, match=r"\.svg or \.png"):
        save(figure_of(run, "differences"), tmp_path / "a.gif")


def test_every_colour_has_a_twin_for_dark_pages() -> None:
    css = palette_css()
    for name, (light, dark) in PALETTE.items():
        assert css.count(f"--{name}:{light};") == 2 and css.count(f"--{name}:{dark};") == 1
    assert "var(--s2)" in icon(Key("k", 2, 1)) and 'aria-hidden="true"' in icon(Key("k", 2, line=True))


def test_a_figure_of_ones_own_is_one_function(run: Run) -> None:
    @figure("mine")
    def mine(run: Run) -> Drawing:
        """How many rows the board has."""
        row = DotRow("rows", (Mark(float(len(run.board.rows)), 1),))
        return Drawing("Mine", (dots("Mine", "w", [row], Scale.around([0.0, 1000.0]), "rows"),))

    try:
        assert marks(run.figure("mine").axes[0]) == [(len(run.board.rows), 0.0)]
        assert "Mine" in render_page(replace(run, measures=[], claims=None))
    finally:
        del FIGURES.entries["mine"], FIGURES.help["mine"]


def test_colours_go_to_the_best_of_the_other_arms_and_a_caption_names_the_rest() -> None:
    levels = LEVELS | {"embedding-distillation-1x": 0.35, "soft-cue-1x": 0.9, "teacher-init-1x": 0.5}
    levels |= {"finetune+distill-1x": 0.6, "ecr-3x": 0.7}
    run = run_of(make(levels))
    styles = {str(arm): style for arm, style in arm_styles(run.board).items()}
    assert {name for name, style in styles.items() if not style} == {"teacher-init-1x", "embedding-distillation-1x"}
    assert styles["soft-cue-1x"] < styles["finetune+distill-1x"] == 6
    drawing = FIGURES.get("precision")(run)
    assert drawing.caption.endswith("In the table alone: teacher-init-1x, embedding-distillation-1x.")


def test_the_caption_of_the_question_names_what_stands_there_and_nothing_else() -> None:
    few = run_of(make({"ecr-1x": 0.8, "finetune-3x": 0.4, "codes-only-1x": 0.7}, items=10, precisions=("fp32",)))
    caption = drawing_of(few, "differences").caption
    assert "Grey: controls, which ECR must beat" in caption and "rivals" not in caption and "bound" not in caption
    alone = run_of(make({"ecr-1x": 0.8, "finetune-3x": 0.4}, items=10, precisions=("fp32",)))
    assert "Grey" not in drawing_of(alone, "differences").caption
