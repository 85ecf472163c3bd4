"""Content encodings of requests and replies."""

import gzip
import json
import zlib

import pytest

from core.limits import MAX_DECODED_BYTES
from dialects.encodings import DecodedBody, decode_body
from tests.unit.dialects.untyped import read_reply, read_request

CHAT = "/v1/chat/completions"
REPLY = b'{"choices":[{"message":{"content":"Hi"}}]}'
STREAM = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
ZSTD = b"(\xb5/\xfd\x04X\x89\x00\x00sk-secret\x00\xff"


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


ENCODED = [
    ("", REPLY),
    ("identity", REPLY),
    ("UTF-8", REPLY),
    ("none", REPLY),
    ("binary, gzip", gzip.compress(REPLY)),
    ("deflate", zlib.compress(REPLY)),
    ("deflate", raw_deflate(REPLY)),
    ("DEFLATE", zlib.compress(REPLY)),
    ("gzip", gzip.compress(REPLY)),
    ("x-gzip", gzip.compress(REPLY)),
    ("deflate, gzip", gzip.compress(zlib.compress(REPLY))),
    (" gzip ,identity,", gzip.compress(REPLY)),
]


@pytest.mark.parametrize(("encoding", "body"), ENCODED, ids=range(len(ENCODED)))
def test_what_the_standard_library_can_decode_is_decoded(encoding: str, body: bytes) -> None:
    assert decode_body(body, encoding) == DecodedBody(REPLY)
    completion = read_reply(CHAT, body, "application/json", True, encoding)
    assert completion.output == {"role": "assistant", "content": "Hi"}
    assert completion.notes == ()


@pytest.mark.parametrize("compress", [zlib.compress, raw_deflate])
def test_a_stream_is_decoded(compress) -> None:
    completion = read_reply(CHAT, compress(STREAM), "text/event-stream", True, "deflate")
    assert completion == read_reply(CHAT, STREAM, "text/event-stream", True)


UNREADABLE = [
    ("zstd", ZSTD, "zstd"),
    ("br", b"\x0b\x02\x80Hi\x03", "br"),
    ("compress", b"\x1f\x9d\x90", "compress"),
    ("deflate", REPLY, "deflate"),
    ("gzip, zstd", gzip.compress(REPLY), "zstd"),
    ("zstd, gzip", gzip.compress(ZSTD), "zstd"),
    (", ".join(["gzip"] * 9), gzip.compress(gzip.compress(gzip.compress(REPLY))), "gzip"),
    ("x" * 500, REPLY, "x" * 40),
]


@pytest.mark.parametrize(("encoding", "body", "name"), UNREADABLE, ids=range(len(UNREADABLE)))
def test_another_encoding_is_noted_and_no_byte_is_kept(
    encoding: str, body: bytes, name: str
) -> None:
    assert decode_body(body, encoding) == DecodedBody(b"", unreadable=name)
    for path in (CHAT, "/v1/embeddings", "/v1/other"):
        for complete in (True, False):
            completion = read_reply(path, body, "application/json", complete, encoding)
            assert (completion.output, completion.error) == (None, None)
            assert completion.is_finished is complete
            assert completion.notes == (f"reply: in the encoding {name}, which cannot be read",)
        prompt = read_request(path, body, encoding)
        assert prompt.input is None
        assert prompt.notes == (f"request: in the encoding {name}, which cannot be read",)


def test_a_stream_in_another_encoding_does_not_lack_its_end() -> None:
    assert read_reply(CHAT, ZSTD, "text/event-stream", True, "zstd").is_finished


@pytest.mark.parametrize("compress", [zlib.compress, gzip.compress, raw_deflate])
def test_the_beginning_of_an_encoded_body_is_decoded(compress) -> None:
    body = json.dumps({"choices": [{"message": {"content": "ab" * 5000}}]}).encode()
    encoding = "gzip" if compress is gzip.compress else "deflate"
    cut = compress(body)[:-12]
    decoded = decode_body(cut, encoding)
    assert body.startswith(decoded.body)
    assert len(decoded.body) > 100
    assert not decoded.is_complete
    completion = read_reply(CHAT, cut, "application/json", True, encoding)
    assert not completion.is_finished
    assert completion.output.startswith('{"choices"')


def test_a_bomb_is_decoded_up_to_a_limit() -> None:
    bomb = zlib.compress(b"[" + b" " * (20 * MAX_DECODED_BYTES))
    decoded = decode_body(bomb, "deflate")
    assert len(decoded.body) == MAX_DECODED_BYTES
    assert not decoded.is_complete


def test_an_encoded_request_is_decoded() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    assert read_request(CHAT, zlib.compress(body), "deflate") == read_request(CHAT, body)
    assert read_request(CHAT, gzip.compress(body), "gzip") == read_request(CHAT, body)


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\x00", b"\x89PNG\r\n\x1a\n", b"(\xb5/\xfd\x00"])
def test_bytes_without_an_encoding_are_no_text(start: bytes) -> None:
    body = start + bytes(range(256))
    completion = read_reply(CHAT, body, "application/json", True)
    assert completion.output == f"[binary, {len(body)} bytes]"
    assert read_request(CHAT, body).input == f"[binary, {len(body)} bytes]"
