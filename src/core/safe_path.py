"""Whether a URL path stays below the base URL that it is appended to."""

from urllib.parse import unquote

from core.limits import MAX_PATH_DECODINGS


def is_safe_path(path: str) -> bool:
    """Whether a URL path stays below any base URL that it is appended to, however often proxies and
    servers percent-decode it.

    False where the path contains "//". The path is then percent-decoded until that no longer
    changes it. False where any of these forms contains a segment "." or "..", a backslash or an
    unprintable character. False where the path still changes after `MAX_PATH_DECODINGS` decodings.
    """
    if "//" in path:
        return False
    for _ in range(MAX_PATH_DECODINGS):
        # Some servers ignore what follows a ";" in a segment, so "..;x" counts as "..".
        segments = (segment.partition(";")[0] for segment in path.split("/"))
        if "\\" in path or any(segment in (".", "..") for segment in segments):
            return False
        if not path.isprintable():
            return False
        path, before = unquote(path), path
        if path == before:
            return True
    return False
