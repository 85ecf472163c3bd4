"""A Langfuse server in memory, with a web page that shows its traces."""

from local.inbox.inbox import Inbox

__all__ = ["Inbox"]
