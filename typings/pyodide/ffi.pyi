# What the Worker uses of https://pyodide.org/en/stable/usage/api/python-api/ffi.html
from collections.abc import Callable
from typing import Any

class JsException(Exception):
    name: str
    message: str

jsnull: Any

def to_js(obj: Any, /, *, dict_converter: Callable[[Any], Any] | None = None) -> Any: ...
