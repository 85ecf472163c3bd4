"""Content encodings of bodies: decoded where Python's standard library can.

The runtime decodes gzip and Brotli in replies. Other encodings, and all of requests, arrive as they
were sent. https://www.rfc-editor.org/rfc/rfc9110#field.content-encoding
"""

import re
import zlib
from typing import NamedTuple

from core.limits import MAX_CONTENT_ENCODINGS, MAX_DECODED_BYTES, MAX_ENCODING_CHARS

# The `wbits` of zlib for each encoding, in the order in which they are tried. Some servers send
# deflate without the header that the standard requires.
_WINDOWS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}

# Values that name no encoding. Some servers put a charset or MIME's transfer encoding there.
_NOT_ENCODED = {"", "identity", "none", "utf-8", "utf8", "us-ascii", "7bit", "8bit", "binary"}


class DecodedBody(NamedTuple):
    """A body without its content encoding.

    `is_complete` is False where the body ends early or is longer than `MAX_DECODED_BYTES`.
    `unreadable` is the name of the encoding that could not be decoded, "" where all could; then
    `body` is b"".
    """

    body: bytes
    is_complete: bool = True
    unreadable: str = ""


def decode_body(body: bytes, encoding: str) -> DecodedBody:
    """Decode a body, given the value of its header `content-encoding`, which may name several
    encodings in the order in which they were applied. Never raises."""
    if not body or not encoding:
        return DecodedBody(body)
    names = [name for name in re.split(r"[\s,]+", encoding.lower()) if name not in _NOT_ENCODED]
    is_complete = True
    for position, name in enumerate(reversed(names)):
        decoded = _inflate(body, name) if position < MAX_CONTENT_ENCODINGS else None
        if decoded is None:
            return DecodedBody(b"", unreadable=name[:MAX_ENCODING_CHARS])
        body, is_complete = decoded.body, is_complete and decoded.is_complete
    return DecodedBody(body, is_complete)


def _inflate(body: bytes, name: str) -> DecodedBody | None:
    """Decode one encoding of a body. None where it is not known, or the body is not encoded so."""
    for window in _WINDOWS.get(name, ()):
        decoder = zlib.decompressobj(window)
        try:
            return DecodedBody(decoder.decompress(body, MAX_DECODED_BYTES), decoder.eof)
        except zlib.error:
            continue
    return None
