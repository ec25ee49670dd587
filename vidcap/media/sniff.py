"""What a file's own bytes say before a media library sees them: playlists, and files that end early."""

from __future__ import annotations

import re
from typing import BinaryIO

_PLAYLISTS = (
    (rb"#EXTM3U", "HLS playlist"),
    (rb"ffconcat\s+version", "concat script"),
    (rb"\[playlist\]", "PLS playlist"),
    (rb"\[reference\]", "ASF redirector"),
    (rb"RTSPtext", "RTSP redirector"),
    (rb"v=0\r?\no=", "SDP session"),
    (rb"(?:file|https?|rtsp|rtmp|concat|subfile|mms)s?:", "address"),
    (
        rb"<(?:\?xml|!DOCTYPE|MPD|smil|asx|SmoothStreamingMedia)[^\0]*<?(?:MPD|smil|asx|SmoothStreamingMedia)\b",
        "manifest",
    ),
)
_BOXES = frozenset(b"ftyp moov mdat free skip wide moof mfra sidx styp uuid meta pnot udta emsg pdin prft ssix".split())
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
HEAD_BYTES = 4096


def playlist_kind(head: bytes) -> str:
    """The kind of playlist or script that the first bytes are, in words; "" for anything else."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for pattern, kind in _PLAYLISTS if re.match(pattern, text, re.IGNORECASE)), "")


def ends_early(handle: BinaryIO, size: int) -> str:
    """In words, how the file of `size` bytes is shorter than its container announces; "" where it is not or cannot say.

    Reads the top-level structure of MP4/MOV, Matroska/WebM and AVI only; a few seeks, whatever the file's size.
    """
    handle.seek(0)
    head = handle.read(HEAD_BYTES)
    if head[4:8] in _BOXES:
        return _boxes_end_early(handle, size)
    if head[:4] == _EBML:
        return _matroska_ends_early(head, size)
    if head[:4] == b"RIFF" and len(head) >= 8:
        announced = int.from_bytes(head[4:8], "little") + 8
        return f"{announced - size} of {announced} bytes are missing" if announced > size else ""
    return ""


def _boxes_end_early(handle: BinaryIO, size: int) -> str:
    position, seen = 0, set()
    while position + 8 <= size:
        handle.seek(position)
        header = handle.read(16)
        length, name = int.from_bytes(header[:4], "big"), header[4:8]
        if name not in _BOXES:
            break  # something appended that is no part of the container
        seen.add(name)
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:
            length = size - position
        if length < 8:
            break
        position += length
        if position > size:
            return f"`{name.decode()}` ends {position - size} bytes after the file"
    return "" if b"moov" in seen else "no `moov` index"


def _matroska_ends_early(head: bytes, size: int) -> str:
    at = head.find(_SEGMENT)
    if at < 0 or at + 5 > len(head):
        return "no segment" if size <= HEAD_BYTES else ""
    first = head[at + 4]
    width = 9 - first.bit_length()
    if width > 8:
        return ""
    value = int.from_bytes(head[at + 4 : at + 4 + width], "big") & ((1 << 7 * width) - 1)
    if value == (1 << 7 * width) - 1:
        return ""  # a live recording does not know its length
    announced = at + 4 + width + value
    return f"{announced - size} of {announced} bytes are missing" if announced > size else ""
