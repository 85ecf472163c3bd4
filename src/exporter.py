"""Batches on their way into one Langfuse project: which protocol, how often, and until when.

What each answer asks for is in the protocols' modules; here it is done. A part that is sent again
is the same bytes under the same ids, so that an answer that got lost never doubles an observation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import ingestion
import otlp
import strict_json
from config import NAME, VERSION, Destination, Settings
from fitting import grouped
from logs import describe
from tracing import Observation, shortened
from vocabulary import Fate, NetworkError, Part, Received, Verdict

HEALTH = "/api/public/health"
PROTOCOLS: Mapping[str, Any] = {"ingestion": ingestion, "otlp": otlp}
# Of Langfuse's fourth version on, by its migration guide, spans are the one way in.
OTLP_SINCE = 4
# Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 8.0
# An isolate has one thread, which its clients' streams need too: it sends so much again a second.
RETRIES_A_SECOND = 40
# A request has 50 subrequests on the free plan, and its provider needs some:
# https://developers.cloudflare.com/workers/platform/limits/#subrequests
MOST_POSTS = 30
# What the health page would have said, an answer to a batch says too.
HEALTH_TIMEOUT, ASK_AGAIN = 2.0, 10.0
POLL = 0.05
# What is not heard of for so long after it should have been, has ended with its request.
OVERDUE = 3.0
# What a body has around its parts, at most.
ENVELOPE = 1000
SHORTEST_CONTENT = 1000


class Platform(Protocol):
    """What delivery asks of the runtime."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def random(self) -> float:
        """A number from 0 to 1."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> Received:
        """The whole answer to a request within `timeout` seconds. Raises `NetworkError`."""
        ...


@dataclass(eq=False)
class Pending:
    """An observation that waits for its delivery.

    `fate` is what the last answer made of it and `reason` why, `tries` how often it was sent,
    `after` how many seconds the server wants to be left alone. `settled` is set where there is
    nothing left to try. `holder` is who sends it at the moment; whoever did so before lets it go.
    """

    observation: Observation
    fate: Fate = Fate.LATER
    reason: str = ""
    tries: int = 0
    after: float | None = None
    settled: bool = False
    holder: "_Export | None" = None

    def is_held(self, now: float) -> bool:
        """Whether somebody goes on with it, whose request has not ended."""
        return self.holder is not None and now < self.holder.busy_until + OVERDUE

    def settle(self, fate: Fate, reason: str = "") -> None:
        """This is what became of it."""
        self.fate, self.reason, self.settled = fate, reason, True


@dataclass
class Exporter:
    """One Langfuse project as this isolate knows it, all of which is safe to lose.

    `protocol` is the one that the server is known to take. `last` is the outcome of the last
    attempt, and `last_at` its time. `running` counts the batches that are on their way.
    """

    destination: Destination
    settings: Settings
    protocol: str | None = None
    last: str | None = None
    last_at: float | None = None
    asking_until: float = 0.0
    ask_after: float = 0.0
    running: int = 0

    async def export(
        self, batch: Sequence[Pending], deadline: float, platform: Platform
    ) -> list[Pending]:
        """Send a batch until each of its observations is settled or taken by another holder, or
        until `deadline`, in seconds since the epoch. Out: those that it did not lose to another
        one, and in them what became of them."""
        self.running += 1
        try:
            return await _Export(self, batch, deadline, platform).run()
        finally:
            self.running -= 1

    async def speak(self, deadline: float, platform: Platform) -> str:
        """The protocol to try: the one that is configured or known, else by the server's version,
        for which one of this isolate's requests asks.

        https://api.reference.langfuse.com/#tag/health
        """
        if self.settings.protocol != "auto":
            return self.settings.protocol
        until, now = self.asking_until, platform.now()
        timeout = min(HEALTH_TIMEOUT, self.settings.timeout / 2)
        if self.protocol is None and now >= self.ask_after and now + timeout < deadline:
            self.asking_until, self.ask_after = now + timeout, now + ASK_AGAIN
            url = self.destination.base_url + HEALTH
            try:
                answer = await platform.http("GET", url, {}, b"", timeout)
                self.protocol = self.protocol or _spoken(answer)
            except NetworkError as error:
                self.last = f"Langfuse could not be reached: {error}"
            self.asking_until = 0.0
        # A promise belongs to the request that made it, so that another one can only look.
        pause = POLL
        while self.protocol is None and platform.now() < until == self.asking_until:
            await platform.sleep(pause)
            pause *= 2
        return self.protocol or "ingestion"

    def headers(self, protocol: str) -> dict[str, str]:
        """The headers of a batch."""
        return {
            "authorization": f"Basic {self.destination.credential}",
            "x-langfuse-public-key": self.destination.public_key,
            "x-langfuse-sdk-name": NAME,
            "x-langfuse-sdk-version": VERSION,
            **PROTOCOLS[protocol].HEADERS,
        }


def backoff(retry: int, random: float, crowd: int = 1) -> float:
    """Seconds to wait before a retry, the first of which is 0, where a crowd of so many waits;
    `random` is from 0 to 1."""
    longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2**retry)
    return random * max(longest, 2 * crowd / RETRIES_A_SECOND)


def last_attempt(settings: Settings) -> float:
    """Seconds before a deadline in which the last attempt begins."""
    return min(settings.timeout, settings.delivery_seconds / 5)


def _spoken(answer: Received) -> str | None:
    """The protocol of the server that gave this answer for its health; None if it is not well."""
    if answer.status in (408, 429) or answer.status >= 500:
        return None
    try:
        major = int(strict_json.parse(answer.text)["version"].split(".")[0])
    except (ValueError, TypeError, KeyError, AttributeError):
        major = 0  # no such page, in a server older than the page
    return "otlp" if major >= OTLP_SINCE else "ingestion"


# A part of a batch, and whose it is.
Piece = tuple[Pending, Part]


@dataclass
class _Export:
    """One batch while it is sent."""

    exporter: Exporter
    batch: Sequence[Pending]
    deadline: float
    platform: Platform
    protocol: str = ""
    posts: int = 0
    # The end of what it is doing.
    busy_until: float = 0.0
    after: float | None = None
    refused_as: set[str] = field(default_factory=set)
    # What is to be sent now, what after a pause, and what each observation still lacks.
    now: list[list[Piece]] = field(default_factory=list)
    later: list[Piece] = field(default_factory=list)
    lacking: dict[Pending, set[str]] = field(default_factory=dict)

    async def run(self) -> list[Pending]:
        try:
            await self._run()
            return [pending for pending in self.batch if pending.holder is self]
        finally:
            # Each knows its holder. In a circle they, and the request, would stay for long.
            self.batch, self.now, self.later, self.lacking = (), [], [], {}

    async def _run(self) -> None:
        for pending in self.batch:
            pending.holder = self
        self.busy_until = self.platform.now() + HEALTH_TIMEOUT
        self.protocol = await self.exporter.speak(self.deadline, self.platform)
        self._encode()
        retry = 0
        while await self._send() and await self._pause(retry):
            retry += 1
            self.now, self.later, self.after = self._grouped(self.later), [], None

    def _is_ours(self, pending: Pending) -> bool:
        return pending.holder is self and not pending.settled

    def _encode(self) -> None:
        """Everything that is not settled, in the words of the protocol."""
        pieces: list[Piece] = []
        for pending in filter(self._is_ours, self.batch):
            try:
                parts = PROTOCOLS[self.protocol].parts(pending.observation)
            except Exception as error:  # one that makes no sense must not take the others along
                pending.settle(Fate.MALFORMED, f"it cannot be written: {describe(error)}")
                continue
            pieces += [(pending, part) for part in parts]
        self.lacking = {}
        for pending, part in pieces:
            self.lacking.setdefault(pending, set()).add(part.id)
        self.now, self.later = self._grouped(pieces), []

    def _grouped(self, pieces: Sequence[Piece]) -> list[list[Piece]]:
        limit = PROTOCOLS[self.protocol].MAX_BYTES - ENVELOPE
        return grouped(pieces, lambda piece: piece[1].size + 1, limit)

    async def _send(self) -> bool:
        """Send what is to be sent now. Whether something of it is to be sent again later."""
        while self.now:
            pieces = [piece for piece in self.now.pop() if self._is_ours(piece[0])]
            if not pieces:
                continue
            if self.posts == MOST_POSTS or self.platform.now() >= self.deadline:
                self.later += pieces
                for pending, _ in pieces:
                    pending.reason = pending.reason or "there was no time to send it"
                continue
            verdict = await self._post([part for _, part in pieces])
            self._heed(verdict, [piece for piece in pieces if not piece[0].settled])
        return bool(self.later)

    async def _post(self, parts: Sequence[Part]) -> Verdict:
        exporter, platform = self.exporter, self.platform
        protocol = PROTOCOLS[self.protocol]
        timeout = min(exporter.settings.timeout, self.deadline - platform.now())
        url = exporter.destination.base_url + protocol.PATH
        headers = exporter.headers(self.protocol)
        self.posts += 1
        self.busy_until = platform.now() + timeout
        try:
            answer = await platform.http("POST", url, headers, protocol.body(parts), timeout)
            verdict = protocol.read_answer(answer, parts, platform.now())
        except NetworkError as error:
            verdict = Verdict(Fate.LATER, f"Langfuse could not be reached: {error}")
        exporter.last, exporter.last_at = verdict.reason or verdict.fate.value, platform.now()
        return verdict

    async def _pause(self, retry: int) -> bool:
        """Wait before a retry. Whether there is time for one and its answer."""
        now, after = self.platform.now(), self.after or 0.0
        left = self.deadline - last_attempt(self.exporter.settings) - now
        if self.posts == MOST_POSTS or left <= 0 or left < after:
            return False
        wait = min(max(after, backoff(retry, self.platform.random(), self.exporter.running)), left)
        self.busy_until = now + wait
        await self.platform.sleep(wait)
        return True

    def _heed(self, verdict: Verdict, pieces: list[Piece]) -> None:
        for pending in dict.fromkeys(pending for pending, _ in pieces):
            pending.tries += 1
        if verdict.fate is Fate.NOT_SPOKEN:
            self._change_protocol(verdict.reason, pieces)
        elif verdict.fate in (Fate.MALFORMED, Fate.TOO_LARGE) and len(pieces) > 1:
            middle = len(pieces) // 2
            self.now += [pieces[middle:], pieces[:middle]]
        else:
            if verdict.fate is Fate.STORED:
                self.exporter.protocol = self.exporter.protocol or self.protocol
            for pending, part in pieces:
                self._heed_one(pending, part, verdict.parts.get(part.id, verdict))

    def _heed_one(self, pending: Pending, part: Part, verdict: Verdict) -> None:
        if verdict.fate is Fate.STORED:
            self.lacking[pending].discard(part.id)
            # Whoever holds it now need not send it any more.
            if not self.lacking[pending]:
                pending.settle(Fate.STORED)
        elif not self._is_ours(pending):
            return  # another one's to judge
        elif verdict.fate is Fate.LATER:
            self.later.append((pending, part))
            pending.reason, pending.after = verdict.reason, verdict.after
            if verdict.after is not None:
                self.after = max(verdict.after, self.after or 0.0)
        elif verdict.fate is Fate.MALFORMED and part.alternative:
            self.lacking[pending] ^= {part.id, part.alternative.id}
            self.now.append([(pending, part.alternative)])
        elif verdict.fate is Fate.TOO_LARGE and (smaller := self._smaller(pending, part)):
            self.now.append([(pending, smaller)])
        else:
            pending.settle(verdict.fate, verdict.reason)

    def _smaller(self, pending: Pending, part: Part) -> Part | None:
        """The part with less content, or None where that makes it no smaller."""
        limit = part.size // 4
        if limit < SHORTEST_CONTENT:
            return None
        pending.observation = shortened(pending.observation, limit)
        for found in PROTOCOLS[self.protocol].parts(pending.observation):
            for smaller in (found, found.alternative):
                if smaller and smaller.id == part.id and smaller.size < part.size:
                    return smaller
        return None

    def _change_protocol(self, reason: str, pieces: list[Piece]) -> None:
        self.refused_as.add(self.protocol)
        others = PROTOCOLS.keys() - self.refused_as
        if self.exporter.settings.protocol == "auto" and others:
            self.exporter.protocol = self.protocol = others.pop()
            self._encode()
            return
        # Ask again the next time: it may have been a server that was just being exchanged.
        self.exporter.protocol = None
        asked = " and ".join(sorted(self.refused_as))
        for pending, _ in pieces:
            if self._is_ours(pending):
                pending.settle(Fate.MISCONFIGURED, f"not taken as {asked}: {reason}")
