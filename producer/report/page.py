"""The HTML file: its template, then the data of its images in chunks, then its script."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from producer.report.preview.previews import Preview
from producer.report.rows import in_script
from tagmill.pages.templating import render

#: images of one block of data; the page reads the thumbnails of a block when it shows one of them
CHUNK = 250

_FOLDER = Path(__file__).parent / "templates"
#: the parts of the script, in their order
_SCRIPTS = (
    "data.js",
    "maps.js",
    "cell.js",
    "grid.js",
    "filters.js",
    "viewer.js",
    "duplicates.js",
    "charts.js",
    "start.js",
)


def write_page(out: BinaryIO, values: Mapping[str, Any], tables: Mapping[str, Any], images: Iterable[Preview]) -> None:
    """Write the page. `images` are in the order of the manifest."""
    script = "(() => {\n'use strict';\n" + "\n".join(_read(name) for name in _SCRIPTS) + "})();\n"
    style = render(_FOLDER / "page.css", {})
    sources = {"default": "'none'", "img": "data:", "style": _hash(style), "script": _hash(script)}
    policy = "; ".join(f"{kind}-src {source}" for kind, source in sources.items())
    policy += "; base-uri 'none'; form-action 'none'"
    head = render(_FOLDER / "page.html.j2", {**values, "policy": policy, "style": style})
    body, end = head.split("<!-- data -->")
    out.write(body.encode())
    out.write(_block("tables", "application/json", in_script(tables)).encode())
    remaining = iter(images)
    while chunk := list(islice(remaining, CHUNK)):
        out.write(_block("rows", "application/json", in_script([found.row for found in chunk])).encode())
        thumbnails = "\n".join(base64.b64encode(found.thumbnail).decode() for found in chunk)
        out.write(_block("thumbnails", "text/plain", thumbnails).encode())
    out.write(f"<script>{script}</script>".encode())
    out.write(end.encode())


def _block(name: str, kind: str, text: str) -> str:
    """Return a block of data, which the browser does not run."""
    return f'<script type="{kind}" class="{name}">{text}</script>\n'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
