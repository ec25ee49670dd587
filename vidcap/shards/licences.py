"""From what a manifest calls a licence to the identifiers of the Hugging Face hub, for a card's front matter."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from vidcap.shards.model_licences import UsedModel

_HUB = frozenset(
    """apache-2.0 mit cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 bsd-2-clause bsd-3-clause gpl-2.0 gpl-3.0 agpl-3.0 lgpl-2.1 lgpl-3.0 mpl-2.0 unlicense wtfpl pddl
    odbl odc-by cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 gfdl llama2 llama3""".split()
)
_CREATIVE = re.compile(r"cc-?(?:0|zero)(?:-1\.0)?|(cc-by(?:-nc)?(?:-sa|-nd)?)-?(\d\.\d)")


def hub_licence(text: str) -> str:
    """`cc-by-4.0` for "CC BY 4.0"; "unknown" for nothing, "other" for what the hub has no identifier of."""
    plain = re.sub(r"[\s_]+", "-", text.strip().lower())
    if not plain:
        return "unknown"
    if plain in _HUB:
        return plain
    creative = _CREATIVE.fullmatch(plain)
    if creative is None:
        return "other"
    found = f"{creative[1]}-{creative[2]}" if creative[1] else "cc0-1.0"
    return found if found in _HUB else "other"


_LIMITS = {
    "commercial use": re.compile(r"(?<![a-z])nc(?![a-z])|non-?\s?commercial"),
    "works made from them, such as clips": re.compile(r"(?<![a-z])nd(?![a-z])|no-?\s?deriv"),
}


def limits_of(text: str) -> list[str]:
    """What a licence's name says that it excludes; names only: VidCap reads no licence."""
    return [limit for limit, pattern in _LIMITS.items() if pattern.search(text.lower())]


def front_licence(sources: Iterable[str], models: Iterable[UsedModel]) -> dict[str, Any]:
    """`license` of the front matter, with what "other" asks for beside it.

    One identifier, or a list: those of the sources, and those of models that limit the use of the captions they made.
    """
    found = {hub_licence(text) for text in sources}
    found |= {model.licence.hub for model in models if model.licence.noncommercial}
    if not found:
        return {}
    front: dict[str, Any] = {"license": next(iter(found)) if len(found) == 1 else sorted(found)}
    if "other" in found:
        front |= {"license_name": "see-data-card", "license_link": "DATA_CARD.md"}
    return front
