"""A figure as SVG inside a page, in the page's colours."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from dsdr_verl.report.plots import COLOURS, INK

GRID = "#dddddd"  # as `dress` draws it
VARIABLES = {
    INK: "currentColor",
    GRID: "var(--grid)",
    **{colour.lower(): f"var(--run-{index})" for index, colour in enumerate(COLOURS)},
}
_HEX = re.compile(r"#[0-9a-f]{6}")


def inline_svg(figure: Figure, title: str) -> str:
    """An `<svg>` without prologue, metadata and namespaces, as wide as its box, whose colours are CSS variables.

    `--grid` and `--run-0` … must be defined by the page.
    """
    file = io.BytesIO()
    # neither date nor random names, so that equal runs give equal pages; the title keeps names of two plots apart
    with matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = ElementTree.fromstring(file.getvalue())
    for parent in list(svg.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    used = {name for node in svg.iter() for value in node.attrib.values() for name in re.findall(r"#([\w-]+)", value)}
    for node in svg.iter():
        node.tag = _local(node.tag)
        if node.get("id") not in used:  # `axes_1` is in every figure of the page
            node.attrib.pop("id", None)
        for name in list(node.attrib):
            node.set(_local(name), _HEX.sub(lambda found: VARIABLES.get(found[0], found[0]), node.attrib.pop(name)))
    for name in ("width", "height"):
        svg.attrib.pop(name)
    svg.set("role", "img")
    svg.set("aria-label", title)
    return ElementTree.tostring(svg, encoding="unicode")


def _local(name: str) -> str:
    return name.rpartition("}")[2]
