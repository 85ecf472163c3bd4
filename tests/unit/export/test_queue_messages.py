"""Queue messages: which versions of them are read."""

import json
from dataclasses import replace
from typing import Any

from core.types import Destination
from export.queue_messages import read_message
from tests.unit import virtual_time
from tests.unit.langfuse import FakeLangfuse
from tests.unit.samples import EMBEDDING_IN_EXISTING_TRACE

# A message that version 0.1.0 of the gateway sent. A queue may hold one for days.
MESSAGE_OF_0_1_0: dict[str, Any] = {
    "id": "b7ad6b7169203331",
    "destination": "default",
    "trace": {
        "id": "0af7651916cd43dd8448eb211c80319c",
        "joined": True,
        "name": None,
        "user": None,
        "session": "s2",
        "tags": [],
        "environment": None,
        "release": None,
        "version": None,
        "metadata": {"team": "search"},
        "started": None,
    },
    "parent_id": "00f067aa0ba902b7",
    "type": "embedding",
    "name": "chat/completions",
    "started": 1795436099.196,
    "ended": 1795436100.708,
    "completion_started": 1795436099.5,
    "model": "gpt-4o-mini-2024-07-18",
    "parameters": {
        "temperature": 0.5,
        "stop": ["a", "b"],
        "stream": True,
        "seed": 7,
        "top_p": None,
    },
    "input": '[{"role":"user","content":"Grüße ✓"}]',
    "output": '{"role":"assistant","content":"Hallo"}',
    "usage": {"input": 7, "input_cached_tokens": 3, "output": 2, "total": 12},
    "cost": {"total": 0.25},
    "level": "DEFAULT",
    "status_message": None,
    "metadata": {
        "provider": "openai",
        "streamed": True,
        "latency_ms": 1512,
        "deep": {"a": [1, None]},
        "team": "search",
    },
    "environment": "staging",
    "version": None,
    "prompt_name": "greeting",
    "prompt_version": 3,
}


def test_a_message_of_version_0_1_0_is_read():
    expected = replace(EMBEDDING_IN_EXISTING_TRACE, model_call=None)
    destination: Destination = expected.destination
    reading = read_message(
        json.dumps(MESSAGE_OF_0_1_0), {destination.name: destination}, FakeLangfuse()
    )
    assert virtual_time.run(reading) == expected
