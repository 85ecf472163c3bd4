# What the Worker and the local runtime use of
# https://pyodide.org/en/stable/usage/api/python-api/ffi.html
from collections.abc import Callable
from typing import Any

class JsException(Exception):
    name: str
    message: str

class JsProxy: ...
class JsDoubleProxy(JsProxy): ...

jsnull: Any

def to_js(obj: Any, /, *, dict_converter: Callable[[Any], Any] | None = None) -> Any: ...
