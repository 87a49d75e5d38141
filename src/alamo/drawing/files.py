"""Writing a diagram to a file, in the format that its ending names."""

from __future__ import annotations

import os
from pathlib import Path

from alamo.drawing.diagram import Diagram
from alamo.drawing.dot import to_dot
from alamo.drawing.graphviz import dot_layout
from alamo.drawing.json import to_json
from alamo.drawing.layout import lay_out
from alamo.drawing.pdf import to_pdf
from alamo.drawing.picture import node_sizes, paint
from alamo.drawing.png import to_png
from alamo.drawing.scene import Scene
from alamo.drawing.style import look_for
from alamo.drawing.svg import to_svg
from alamo.errors import UsageError

__all__ = ["scene_of", "write"]

_TEXTS = {".dot": to_dot, ".json": to_json}
_PICTURES = {".png": to_png, ".svg": to_svg, ".pdf": to_pdf, "": to_png}


def check_ending(file_name: str | os.PathLike[str]) -> str:
    """The ending of a file name, in small letters; none stands for ``.png``.

    Raises:
        UsageError: there is no such format.
    """
    ending = Path(file_name).suffix.lower()
    if ending not in _TEXTS and ending not in _PICTURES:
        known = ", ".join([".png", ".svg", ".pdf", *_TEXTS])
        raise UsageError(f"{os.fspath(file_name)!r}: a DAG can be written as {known}")
    return ending


def write(diagram: Diagram, file_name: str | os.PathLike[str]) -> None:
    """Write a diagram to a file.

    Raises:
        UsageError: the ending names no format, or one that needs the extra ``dag``.
        OSError: the file cannot be written.
    """
    ending = check_ending(file_name)
    if ending in _TEXTS:
        data = _TEXTS[ending](diagram)
    else:
        data = _PICTURES[ending](scene_of(diagram))
    Path(file_name).write_bytes(data)


def scene_of(diagram: Diagram) -> Scene:
    """Lay a diagram out and paint it.

    A layout that needs no breaking is left to Graphviz, if that is here: it is slower and bends
    edges better.  It breaks nothing, so the rest is ours.
    """
    look = look_for(len(diagram.nodes))
    widths, heights = node_sizes(diagram, look)
    layout = lay_out(diagram, widths, heights, look.spacing)
    if look.labels and not layout.broken:
        layout = dot_layout(diagram, widths, heights, look.spacing) or layout
    return paint(diagram, layout, look)
