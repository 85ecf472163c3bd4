"""A Langfuse in memory, with a page that shows what it received."""

from local.inbox.inbox import Inbox

__all__ = ["Inbox"]
