"""Whether a URL path stays below the base URL that it is appended to."""

from urllib.parse import unquote

from core.limits import MAX_PATH_DECODINGS


def is_safe_path(path: str) -> bool:
    """Whether a path stays below any base URL that it is appended to.

    False where it contains "//". False where it contains a segment "." or "..", a backslash or an
    unprintable character, also a percent-encoded one. False where each of `MAX_PATH_DECODINGS`
    decodings changes it.
    """
    if "//" in path:
        return False
    for _ in range(MAX_PATH_DECODINGS):
        # Some servers ignore what follows a ";" in a segment.
        segments = (segment.partition(";")[0] for segment in path.split("/"))
        if "\\" in path or any(segment in (".", "..") for segment in segments):
            return False
        if not path.isprintable():
            return False
        path, before = unquote(path), path
        if path == before:
            return True
    return False
