# The JavaScript globals, as Python sees them in the Worker.
from typing import Any

def __getattr__(name: str) -> Any: ...
