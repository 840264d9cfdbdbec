"""A matplotlib figure as a small ``<svg>``: text stays text, colours become CSS variables, no style attributes.

A page whose Content-Security-Policy names its styles by hash blocks style attributes, so they become attributes of
their own. Groups and clip paths, which nothing here needs, are left out; markers are written where they stand.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from markupsafe import Markup
from matplotlib.figure import Figure

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
TOOLTIP = "tooltip "
"""Start of an artist's gid that holds the text shown over it."""
KEPT = ("fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "fill-opacity", "stroke-opacity",
        "font-size", "font-weight", "text-anchor")  # fmt: skip
SIZE = "11px"
"""Of text that says nothing else: on a page by its style, alone as an attribute of the drawing."""
DEFAULTS = {("stroke-width", "1"), ("opacity", "1"), ("font-size", SIZE), ("font-weight", "normal")}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
Palette = Mapping[str, tuple[str, str]]


def to_svg(
    figure: Figure, palette: Palette, name: str = "", title: str = "", words: str = "", alone: bool = False
) -> Markup:
    """The figure as one ``<svg>`` element, one unit a pixel.

    ``palette``: name -> colour on light and dark ground; the light ones are what is drawn. ``title`` and ``words``:
    what a screen reader says, under ids that start with ``name``; without a title it is decoration. ``alone``: a file
    of its own that brings its colours and its font.
    """
    drawn = ET.fromstring(_drawn(figure, alone))
    width, height = (f"{float(size):g}" for size in (drawn.get("viewBox") or "").split()[2:])
    root = ET.Element("svg", {"class": "chart", "viewBox": f"0 0 {width} {height}"})
    if title:
        root.attrib |= {"role": "img", "aria-labelledby": f"{name}-t {name}-d"}
        ET.SubElement(root, "title", {"id": f"{name}-t"}).text = title
        ET.SubElement(root, "desc", {"id": f"{name}-d"}).text = words
    elif not alone:
        root.set("aria-hidden", "true")
    if alone:
        root.attrib |= {"xmlns": SVG[1:-1], "width": width, "height": height, "font-family": FONT, "font-size": SIZE}
        ET.SubElement(root, "style").text = _colours(palette)
    markers = {path.get("id", ""): path for path in drawn.iter(f"{SVG}path") if path.get("id")}
    variables = {light.lower(): f"var(--{name})" for name, (light, _) in palette.items()}
    _copy(drawn, root, _Context(markers, variables))
    return Markup(ET.tostring(root, encoding="unicode"))


def _drawn(figure: Figure, with_ground: bool) -> str:
    buffer = io.StringIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.patch.set_visible(with_ground)
    with warnings.catch_warnings():
        # letters that the font of the measuring lacks are drawn by the reader's fonts
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata=metadata)
    figure.patch.set_visible(True)
    return buffer.getvalue()


def _colours(palette: Palette) -> str:
    light, dark = ("".join(f"--{name}:{pair[side]};" for name, pair in palette.items()) for side in (0, 1))
    return f"svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"


class _Context:
    def __init__(self, markers: dict[str, ET.Element], variables: dict[str, str]):
        self.markers, self.variables = markers, variables

    def look(self, element: ET.Element, *also: ET.Element) -> dict[str, str]:
        """Style attributes of ``also``, then of ``element``, as attributes."""
        found: dict[str, str] = {}
        for source in (*also, element):
            for part in (source.get("style") or "").split(";"):
                key, _, value = part.partition(":")
                found[key.strip()] = value.strip()
        looks = {key: self.variables.get(found[key], found[key]) for key in KEPT if key in found}
        return {key: value for key, value in looks.items() if (key, value) not in DEFAULTS}


def _copy(source: ET.Element, target: ET.Element, context: _Context) -> None:
    for child in source:
        tag = child.tag.removeprefix(SVG)
        if tag == "g":
            gid = child.get("id", "")
            inside = target
            if gid.startswith(TOOLTIP):
                inside = ET.SubElement(target, "g")
                ET.SubElement(inside, "title").text = gid.removeprefix(TOOLTIP)
            _copy(child, inside, context)
        elif tag == "path" and "none" not in (child.get("d") or "none"):
            _shape(target, child.get("d", ""), context.look(child))
        elif tag == "use":
            mark = context.markers[child.get(LINK, "#")[1:]]
            x, y = (float(child.get(key, "0")) for key in "xy")
            _marker(target, mark.get("d", ""), x, y, context.look(child, mark))
        elif tag == "text":
            _text(target, child, context)


def _shape(target: ET.Element, outline: str, looks: dict[str, str]) -> None:
    invisible = looks.get("fill", "black") == "none" and looks.get("stroke", "none") == "none"
    if invisible or looks.get("opacity") == "0":
        return
    last = target[-1] if len(target) else None
    if last is not None and last.tag == "path" and {**last.attrib, "d": ""} == {"d": "", **looks}:
        last.set("d", last.get("d", "") + _outline(outline))  # lines of one look are one path
    else:
        ET.SubElement(target, "path", {"d": _outline(outline), **looks})


def _marker(target: ET.Element, outline: str, x: float, y: float, looks: dict[str, str]) -> None:
    """An outline around (0, 0), moved; a round one is a circle."""
    if "C" in outline:
        radius = max(abs(float(found)) for found in re.findall(r"-?[\d.]+", outline))
        place = {"cx": x, "cy": y, "r": radius}
        ET.SubElement(target, "circle", {**{key: _rounded(str(v)) for key, v in place.items()}, **looks})
        return
    numbers = iter(range(10**6))
    moved = re.sub(r"-?\d+(\.\d+)?", lambda m: str(float(m[0]) + (x, y)[next(numbers) % 2]), outline)
    _shape(target, moved, looks)


def _text(target: ET.Element, source: ET.Element, context: _Context) -> None:
    place = {key: _rounded(value) for key in ("x", "y") if (value := source.get(key))}
    turned = source.get("transform", "")
    if turned and not turned.startswith("rotate(-0 ") and not turned.startswith("rotate(0 "):
        place["transform"] = re.sub(r"-?\d+\.\d+", lambda m: _rounded(m[0]), turned)
    looks = {"fill": context.variables.get("#1c2126", "currentColor")} | context.look(source)
    if source.text:
        ET.SubElement(target, "text", {**place, **looks}).text = source.text


def _outline(text: str) -> str:
    """The same path with one decimal and without spaces that nothing needs."""
    rounded = re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", lambda m: _rounded(m[0]), text)
    return re.sub(r"\s*([MLQCz])\s*", r"\1", rounded.replace("\n", " ")).strip()


def _rounded(text: str) -> str:
    return f"{round(float(text), 1) + 0.0:g}"
