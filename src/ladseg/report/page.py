"""The common parts of the HTML pages, which load nothing and need no script."""

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from ladseg.errors import TURNS_TEXT
from ladseg.results import Environment

CONTROLS = {
    code: repr(chr(code))[1:-1]
    for code in (*range(32), *range(127, 160), 0x2028, 0x2029, *map(ord, TURNS_TEXT))
    if chr(code) not in "\n\t"
}
KINDS = {".jpg": "jpeg", ".png": "png"}


def render(template: str, **values: Any) -> str:
    """Return a page from one of the templates in ``pages``; values are escaped, control characters too."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("ladseg.report", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template(template).render(**values).translate(CONTROLS)


def image_uri(image: Image.Image, kind: str, **options: Any) -> str:
    """Return a picture as a ``data:`` URI; ``kind`` is Pillow's name of the format."""
    memory = io.BytesIO()
    image.save(memory, kind, **options)
    return _uri(memory.getvalue(), kind.lower())


def file_uri(path: Path) -> str:
    """Return a JPEG or PNG file as a ``data:`` URI."""
    return _uri(path.read_bytes(), KINDS[path.suffix])


def machine(environment: Environment) -> str:
    """Return one line about the software and machine."""
    packages = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    device = environment.gpu or f"{environment.processor}, {environment.threads} threads"
    commit = f"; commit {environment.git_commit}" if environment.git_commit else ""
    return f"{device}; {environment.system}; Python {environment.python}, {packages}{commit}."


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
