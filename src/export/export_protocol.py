"""What the exporter requires of a protocol. A module with these members is one."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from core.observation import Observation
from core.types import HttpResponse
from export.batch import BatchItem
from export.upload_results import UploadResult


class ExportProtocol(Protocol):
    """A protocol for uploads of observations. Modules implement it, so that the names of its
    constants are in upper case."""

    @property
    def PATH(self) -> str:
        """What is appended to the destination's base URL."""
        ...

    @property
    def HEADERS(self) -> Mapping[str, str]:
        """The HTTP headers of each upload, besides those of all protocols."""
        ...

    @property
    def MAX_BYTES(self) -> int:
        """The size of the largest body that the server accepts."""
        ...

    def encode(self, observation: Observation) -> tuple[BatchItem, ...]:
        """Encode an observation as items: always the same bytes under the same ids, so that it is
        stored once, even when it is sent again."""
        ...

    def request_body(self, items: Sequence[BatchItem]) -> bytes:
        """The body of the request that uploads these items."""
        ...

    def read_response(
        self, response: HttpResponse, items: Sequence[BatchItem], now: float
    ) -> UploadResult:
        """Read the response to an upload of these items, at `now` in seconds since the epoch. Never
        raises."""
        ...
