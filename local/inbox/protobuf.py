"""OTLP exports in protobuf, turned into what the same export says in OTLP's JSON. Pure.

The two differ from protobuf's own JSON mapping in one thing: ids are hex, not base64.
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

import base64
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_IDS = ("traceId", "spanId", "parentSpanId")


def as_json(body: bytes) -> dict[str, Any]:
    """An `ExportTraceServiceRequest` as OTLP's JSON has it, parsed; raises ValueError."""
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise ValueError(f"not an export: {error}") from error
    export = MessageToDict(request, use_integers_for_enums=True)
    for group in export.get("resourceSpans", []):
        for scoped in group.get("scopeSpans", []):
            for span in scoped.get("spans", []):
                # Protobuf does not tell an empty name from none.
                span.setdefault("name", "")
                for holder in (span, *span.get("links", [])):
                    for name in _IDS:
                        if name in holder:
                            holder[name] = base64.b64decode(holder[name]).hex()
    return export
