"""OTLP exports in protobuf, converted to OTLP's JSON.

OTLP's JSON differs from protobuf's own JSON mapping in one respect: ids are hex, not base64.
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

import base64
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_IDS = ("traceId", "spanId", "parentSpanId")


def as_json(body: bytes) -> dict[str, Any]:
    """An `ExportTraceServiceRequest` in the structure of OTLP's JSON. Raises ValueError."""
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise ValueError(f"not an export: {error}") from error
    export = MessageToDict(request, use_integers_for_enums=True)
    for group in export.get("resourceSpans", []):
        for scoped in group.get("scopeSpans", []):
            for span in scoped.get("spans", []):
                # In protobuf, an empty name and a missing one are the same.
                span.setdefault("name", "")
                for element in (span, *span.get("links", [])):
                    for name in _IDS:
                        if name in element:
                            element[name] = base64.b64decode(element[name]).hex()
    return export
