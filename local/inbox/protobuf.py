"""OTLP exports in JSON and in protobuf, parsed to the same message.

OTLP's JSON differs from protobuf's own JSON mapping in one respect: ids are hex, not base64.
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

import base64
from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_IDS = {"trace_id": "traceId", "span_id": "spanId", "parent_span_id": "parentSpanId"}


class Malformed(Exception):
    """The export is refused as a whole. The message describes the invalid element."""


def from_protobuf(body: bytes) -> ExportTraceServiceRequest:
    """The export in a body of protobuf. Raises ValueError."""
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise ValueError(f"not an export: {error}") from error
    return request


def from_json(export: Any) -> ExportTraceServiceRequest:
    """The export in parsed JSON. Raises Malformed, also for a member that OTLP does not have:
    it is probably a misspelt one."""
    if not isinstance(export, dict):
        raise Malformed("the export: expected an object")
    try:
        request = ParseDict(export, ExportTraceServiceRequest())
    except ParseError as error:
        # The innermost message, which is the last one, describes the element.
        raise Malformed(str(error).rpartition("Failed to parse ")[2].strip(". ")) from error
    for place, span in spans(request):
        for element in (span, *span.links):
            for field, name in _IDS.items():
                # The digits were taken for base64, so that in base64 they are the same again.
                digits = base64.b64encode(getattr(element, field, b"")).decode()
                try:
                    id = bytes.fromhex(digits)
                except ValueError as error:
                    raise Malformed(f"{place}.{name}: expected hex digits") from error
                if id:
                    setattr(element, field, id)
    return request


def spans(request: ExportTraceServiceRequest) -> Iterator[tuple[str, Span]]:
    """Each span of an export with its place, such as "resourceSpans[0].scopeSpans[0].spans[2]"."""
    for i, group in enumerate(request.resource_spans):
        for j, scoped in enumerate(group.scope_spans):
            for k, span in enumerate(scoped.spans):
                yield f"resourceSpans[{i}].scopeSpans[{j}].spans[{k}]", span


def as_json(span: Span) -> dict[str, Any]:
    """A span in the structure of OTLP's JSON."""
    found = MessageToDict(span, use_integers_for_enums=True)
    for element in (found, *found.get("links", [])):
        for name in _IDS.values():
            if name in element:
                element[name] = base64.b64decode(element[name]).hex()
    return found
