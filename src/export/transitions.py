"""The exporter's state machine: what it does with an item, by the item's state and the result of
its upload. `export.exporter` executes the actions.

**Items.** An observation is encoded as one or more items: an ingestion event for the trace and one
for the observation, or one OTLP span. Langfuse accepts or refuses each item separately. An
observation is stored as soon as all of its items are acknowledged. It is "settled" when this
isolate is not to upload it again.

**Results.** The protocol's module reads the response to an upload as an `UploadResult`: an outcome
for the upload as a whole, and others for single items that the response names.

**States.** When the result arrives, an item is in one of these states:

- TOGETHER: it was one of several in the upload, and the response does not name it. If the upload is
  refused, it is unknown which of them is the cause.
- ALONE: it was the only one, or the response names it.
- TAKEN_OVER: another export has taken over the observation during the upload. That export sends the
  item again, and decides what becomes of it.
- SETTLED: the observation was settled during the upload, or by another of its items.

**Actions.** `TRANSITIONS` has the action for each state and outcome, and a second one for where the
first is impossible: where an item has no alternative or cannot be truncated further, and where the
other protocol is not supported either or `LANGFUSE_PROTOCOL` excludes it. Only a retry follows a
pause; what the other actions send is sent immediately. Each of them can be repeated only a few
times for an item, and retries end at the deadline, so that every export ends.

docs/delivery.md has the same table.
"""

from collections.abc import Mapping
from enum import StrEnum, auto

from export.upload_results import Outcome


class State(StrEnum):
    """The state of an item when the result of its upload arrives."""

    TOGETHER = auto()
    ALONE = auto()
    TAKEN_OVER = auto()
    SETTLED = auto()


class Action(StrEnum):
    """What an export does with an item, or with several of an upload that have the same state."""

    ACKNOWLEDGE = auto()  # with the last of its items, the observation is settled as STORED
    # Send it again after a pause: the same bytes under the same ids. Langfuse stores by id, so that
    # a lost response never doubles an observation.
    RETRY = auto()
    SPLIT = auto()  # send the items as two halves, until one of them is alone
    REPLACE = auto()  # send the item's alternative
    TRUNCATE = auto()  # send the item again, with input and output cut
    CHANGE_PROTOCOL = auto()  # encode all that is not settled in the other protocol, and send it
    SETTLE = auto()  # with the outcome, or MISCONFIGURED where no protocol is supported
    IGNORE = auto()


TRANSITIONS: Mapping[State, Mapping[Outcome, tuple[Action, ...]]] = {
    State.TOGETHER: {
        Outcome.STORED: (Action.ACKNOWLEDGE,),
        Outcome.RETRYABLE: (Action.RETRY,),
        Outcome.MALFORMED: (Action.SPLIT,),
        Outcome.TOO_LARGE: (Action.SPLIT,),
        Outcome.UNSUPPORTED_PROTOCOL: (Action.CHANGE_PROTOCOL, Action.SETTLE),
        Outcome.MISCONFIGURED: (Action.SETTLE,),
    },
    State.ALONE: {
        Outcome.STORED: (Action.ACKNOWLEDGE,),
        Outcome.RETRYABLE: (Action.RETRY,),
        Outcome.MALFORMED: (Action.REPLACE, Action.SETTLE),
        Outcome.TOO_LARGE: (Action.TRUNCATE, Action.SETTLE),
        Outcome.UNSUPPORTED_PROTOCOL: (Action.CHANGE_PROTOCOL, Action.SETTLE),
        Outcome.MISCONFIGURED: (Action.SETTLE,),
    },
    State.TAKEN_OVER: {
        # The new owner then need not send the item again.
        Outcome.STORED: (Action.ACKNOWLEDGE,),
        Outcome.RETRYABLE: (Action.IGNORE,),
        Outcome.MALFORMED: (Action.IGNORE,),
        Outcome.TOO_LARGE: (Action.IGNORE,),
        Outcome.UNSUPPORTED_PROTOCOL: (Action.IGNORE,),
        Outcome.MISCONFIGURED: (Action.IGNORE,),
    },
    State.SETTLED: dict.fromkeys(Outcome, (Action.IGNORE,)),
}
