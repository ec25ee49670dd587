"""The page itself: one HTML document with styles, script and data inside, under a policy that lets nothing else run.

Data goes in as JSON that cannot end its element; the script builds every node with `textContent`, and the policy
forbids it (trusted types) to do otherwise. Script and style are allowed by their digests alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

STYLES = ("page.css", "viewer.css")
SCRIPTS = ("data.js", "parts.js", "viewer.js", "page.js")
"""One script, in files that each do one thing."""


def document(data: Mapping[str, Any], clips: Iterable[tuple[str, bytes]] = ()) -> bytes:
    """The page over `data`; `clips` are key and MP4 bytes of those that it carries along."""
    template = _environment().from_string(_asset("index.html.j2"))
    text = template.render(
        title=data["title"],
        policy=policy(served=bool(data["served"])),
        style=Markup(_style()),
        script=Markup(_script()),
        data=Markup(json_for_html(data)),
        clips=((key, base64.b64encode(clip).decode()) for key, clip in clips),
    )
    return text.encode()


def policy(*, served: bool) -> str:
    """The Content-Security-Policy: our script and style by digest, pictures and clips from the page or the server."""
    own = "'self' " if served else ""
    parts = {
        "default-src": "'none'",
        "script-src": f"'sha256-{source_digest(_script())}'",
        "style-src": f"'sha256-{source_digest(_style())}'",
        "img-src": f"{own}data:",
        "media-src": f"{own}blob:",
        "connect-src": "'self'" if served else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())


def json_for_html(value: Any) -> str:
    """JSON that may stand in a `<script>` element: no `<`, `>`, `&`, and no line separators of old JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


@cache
def _environment() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@cache
def _asset(name: str) -> str:
    return (resources.files("vidcap.inspector") / "page" / name).read_text("utf-8")


def _style() -> str:
    return "".join(_asset(name) for name in STYLES)


def _script() -> str:
    # One function around all: no name of ours is a name of the window's.
    return '"use strict";\n(() => {\n' + "".join(_asset(name) for name in SCRIPTS) + "})();\n"


def source_digest(text: str) -> str:
    """How a Content-Security-Policy names a script or style: base64 of its sha256."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
