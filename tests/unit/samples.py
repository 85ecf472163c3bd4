"""Sample observations, and Hypothesis strategies for observations and JSON values."""

from dataclasses import replace

from hypothesis import strategies as st

from core.observation import ModelCall, Observation, Trace
from core.strict_json import to_json
from core.types import Destination
from tracing import request_span_with_attempts

TRACE = Trace(
    id="0af7651916cd43dd8448eb211c80319c",
    is_existing=False,
    name="my trace",
    user="ada",
    session="s1",
    tags=("a", "b,c"),
    environment="staging",
    release="r1",
    version="v1",
    metadata={"provider": "openai", "streamed": True, "latency_ms": 1512, "deep": {"a": [1, None]}},
    started_at=1795436099.196,
)
FULL = Observation(
    id="b7ad6b7169203331",
    destination=Destination("default", "https://langfuse.example", "pk-lf-1", "sk-lf-1"),
    trace=TRACE,
    parent_id=None,
    type="generation",
    name="chat/completions",
    started_at=1795436099.196,
    ended_at=1795436100.708,
    completion_started_at=1795436099.5,
    model="gpt-4o-mini-2024-07-18",
    parameters={"temperature": 0.5, "stop": ["a", "b"], "stream": True, "seed": 7, "top_p": None},
    input='[{"role":"user","content":"Grüße ✓"}]',
    output='{"role":"assistant","content":"Hallo"}',
    usage={"input": 7, "input_cached_tokens": 3, "output": 2, "total": 12},
    cost={"total": 0.25},
    level="ERROR",
    status_message="HTTP 500: oops",
    metadata=TRACE.metadata,
    environment="staging",
    version="v1",
    prompt_name="greeting",
    prompt_version=3,
    model_call=ModelCall(
        request_type="messages",
        provider="google",
        request_model="gemini",
        response_model="gpt-4o-mini-2024-07-18",
        response_id="msg_1",
        finish_reasons=("stop", "length"),
    ),
    error_type="500",
)
EMPTY = replace(
    FULL,
    completion_started_at=None,
    model=None,
    parameters={},
    input=None,
    output=None,
    usage={},
    cost={},
    level="DEFAULT",
    status_message=None,
    metadata={},
    trace=Trace("0" * 31 + "1", False, None, None, None, (), None, None, None, {}, FULL.started_at),
    parent_id=None,
    environment=None,
    version=None,
    prompt_name=None,
    prompt_version=None,
    model_call=None,
    error_type=None,
)
# An embedding in an existing trace, for which the caller's headers set only session and metadata.
EMBEDDING_IN_EXISTING_TRACE = replace(
    FULL,
    type="embedding",
    parent_id="00f067aa0ba902b7",
    level="DEFAULT",
    status_message=None,
    error_type=None,
    metadata={**FULL.metadata, "team": "search"},
    version=None,
    trace=replace(
        EMPTY.trace,
        id=TRACE.id,
        is_existing=True,
        session="s2",
        metadata={"team": "search"},
        started_at=None,
    ),
)
# The span of a request, and its child generations: the attempts at two providers.
SPAN, *ATTEMPTS = request_span_with_attempts(
    replace(FULL, level="DEFAULT", status_message=None, error_type=None),
    [
        replace(FULL, id="00f067aa0ba90001", ended_at=1795436099.5, output=None, usage={}, cost={}),
        replace(FULL, id="00f067aa0ba90002", started_at=1795436099.6, level="DEFAULT"),
    ],
)

# Including lone surrogates.
TEXTS = st.text(st.characters(), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
_OBJECTS = st.dictionaries(
    TEXTS | st.sampled_from(["provider", "request_type", "requested_model", "notes"]),
    VALUES,
    max_size=5,
)
_TIMES = st.floats(0, 4e9)
_OPTIONAL_TEXTS = st.none() | TEXTS
_CONTENT = st.none() | VALUES.map(to_json)
_TRACES = st.builds(
    Trace,
    id=st.just(TRACE.id),
    is_existing=st.booleans(),
    name=_OPTIONAL_TEXTS,
    user=_OPTIONAL_TEXTS,
    session=_OPTIONAL_TEXTS,
    tags=st.lists(TEXTS, max_size=3).map(tuple),
    environment=_OPTIONAL_TEXTS,
    release=_OPTIONAL_TEXTS,
    version=_OPTIONAL_TEXTS,
    metadata=_OBJECTS,
    started_at=st.none() | _TIMES,
)
OBSERVATIONS = st.builds(
    Observation,
    id=st.just(FULL.id),
    destination=st.just(FULL.destination),
    trace=_TRACES,
    parent_id=st.sampled_from([None, "00f067aa0ba902b7"]),
    type=st.sampled_from(["generation", "embedding", "span"]),
    name=TEXTS,
    started_at=_TIMES,
    ended_at=_TIMES,
    completion_started_at=st.none() | _TIMES,
    model=_OPTIONAL_TEXTS,
    parameters=_OBJECTS,
    input=_CONTENT,
    output=_CONTENT,
    usage=st.dictionaries(
        st.sampled_from(["input", "input_cached_tokens", "output", "total"]),
        st.integers(0, 2**40),
    ),
    cost=st.dictionaries(st.just("total"), st.floats(0, 1e6)),
    level=st.sampled_from(["DEFAULT", "WARNING", "ERROR"]),
    status_message=_OPTIONAL_TEXTS,
    metadata=_OBJECTS,
    environment=_OPTIONAL_TEXTS,
    version=_OPTIONAL_TEXTS,
    prompt_name=_OPTIONAL_TEXTS,
    prompt_version=st.none() | st.integers(1, 1000),
    model_call=st.none()
    | st.builds(
        ModelCall,
        request_type=st.sampled_from(["chat", "messages", "embedding", "other"]) | TEXTS,
        provider=st.sampled_from(["openai", "azure-openai"]) | TEXTS,
        request_model=_OPTIONAL_TEXTS,
        response_model=_OPTIONAL_TEXTS,
        response_id=_OPTIONAL_TEXTS,
        finish_reasons=st.lists(TEXTS, max_size=3).map(tuple),
    ),
    error_type=_OPTIONAL_TEXTS,
)
