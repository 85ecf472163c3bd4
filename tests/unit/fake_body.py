"""A request's body in the runtime's memory, for tests."""

from dataclasses import dataclass

from core.json_body import JsonBody


@dataclass
class FakeBody:
    """The `RequestBody` of `core.platform`. `reads` is how often its bytes were copied."""

    data: bytes
    reads: int = 0

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read(self, limit: int, start: int = 0) -> bytes:
        self.reads += 1
        return self.data[start : start + limit]

    def truncate(self, limit: int) -> None:
        self.truncated_to = limit

    def with_content(self, data: bytes) -> "FakeBody":
        return FakeBody(data)


def json_body(data: bytes) -> JsonBody:
    return JsonBody(FakeBody(data))
