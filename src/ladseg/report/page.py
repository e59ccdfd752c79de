"""What the HTML pages have in common: they load nothing and need no script."""

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

KINDS = {".jpg": "jpeg", ".png": "png"}


def render(template: str, **values: Any) -> str:
    """A page from one of the templates in ``pages``; whatever comes from a user is escaped."""
    environment = Environment(
        loader=PackageLoader("ladseg.report", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def image_uri(image: Image.Image, kind: str, **options: Any) -> str:
    """A picture as a ``data:`` address; ``kind`` is Pillow's name of the format."""
    memory = io.BytesIO()
    image.save(memory, kind, **options)
    return _uri(memory.getvalue(), kind.lower())


def file_uri(path: Path) -> str:
    """A JPEG or PNG file as a ``data:`` address."""
    return _uri(path.read_bytes(), KINDS[path.suffix])


def machine(environment: dict[str, Any]) -> str:
    """Where something was measured, in one line; ``environment`` is what ``environment.json`` holds."""
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    device = environment["gpu"] or f"{environment['processor']}, {environment['threads']} threads"
    commit = environment["git_commit"] and f"; commit {environment['git_commit']}"
    return f"{device}; {environment['system']}; Python {environment['python']}, {packages}{commit or ''}."


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
