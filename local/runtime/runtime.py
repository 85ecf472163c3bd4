"""The real workerd on this machine, running what `wrangler deploy` ships.

`Runtime` serves `src/` and `python_modules/` on loopback. Compatibility date and flags come from
`wrangler.toml`.
"""

import json
import os
import signal
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

from local.runtime import workerd
from local.runtime.workerd import HERE, NODE_MODULES, bundle, require_installed

if TYPE_CHECKING:
    from local.runtime.inspector import Memory


class Runtime:
    """A running workerd with the Worker in it.

    `env` is the Worker's environment: strings become text bindings, anything else JSON ones.
    `allow` names the networks that its `fetch` may reach (workerd's words: `local` is loopback,
    `private` and `public` the rest). `port` 0 takes a free one. Each log line goes to `on_log` and
    into `logs`. `modules` are the Python modules, by default those that are deployed;
    `without_flags` are compatibility flags of `wrangler.toml` to leave out.

    `queues` maps a binding to the settings of its queue's consumer, which is the Worker itself, in
    the words of `[[queues.consumers]]`: `{"TRACE_QUEUE": {"queue": "traces", "max_retries": 3}}`.
    These queues are miniflare's simulation and rest in memory. What ends in a dead-letter queue
    becomes a line of the log: `{"event": "dead_letter", "queue": ..., "text": ...}`, with `base64`
    for `text` where the message is of bytes. `rate_limits` maps a binding to its limit, in the
    words of `[ratelimits.simple]`: `{"RATE_LIMIT": {"limit": 5, "period": 10}}`. These are
    miniflare's as well. Without either, workerd runs alone, which is lighter. A cache, for the
    Cache API, is always there, and ends with the runtime.

    `url` is the Worker's address, `pid` the process id of workerd. `memory` can be asked for where
    it was started with `inspect`, and workerd runs alone. Use it as a context manager, or call
    `close`.
    """

    def __init__(
        self,
        env: Mapping[str, Any],
        *,
        allow: Iterable[str] = ("local",),
        port: int = 0,
        on_log: Callable[[str], None] | None = None,
        modules: Mapping[str, str] | None = None,
        without_flags: Iterable[str] = (),
        queues: Mapping[str, Mapping[str, Any]] | None = None,
        rate_limits: Mapping[str, Mapping[str, int]] | None = None,
        inspect: bool = False,
    ) -> None:
        require_installed()
        self.logs: list[str] = []
        self._logged = threading.Condition()
        self._on_log = on_log
        self._inspector: Any = None
        self._folder = tempfile.TemporaryDirectory(prefix="gateway-")
        folder = Path(self._folder.name)
        workerd.write_modules(folder, bundle() if modules is None else modules, links=True)
        date, flags = workerd.compatibility(without_flags)
        worker: dict[str, Any] = {"date": date, "flags": flags, "allow": list(allow), "port": port}
        control, control_end = os.pipe()
        hosted = bool(queues or rate_limits)
        if hosted:
            worker |= {"folder": str(folder), "modules": workerd.MODULES, "env": dict(env)}
            worker["queues"] = {name: dict(settings) for name, settings in (queues or {}).items()}
            worker["rateLimits"] = {name: dict(v) for name, v in (rate_limits or {}).items()}
            script = HERE / "miniflare.mjs"
            command = [NODE_MODULES / ".bin" / "node", script, str(control_end)]
            variables = {"NO_COLOR": "1", "TMPDIR": str(folder)}
        else:
            texts = {name: f"WORKER_{name}" for name, v in env.items() if isinstance(v, str)}
            others = {name: v for name, v in env.items() if name not in texts}
            config = workerd.config(**worker, variables=texts, values=others)
            (folder / "config.capnp").write_text(config)
            command = [
                *(workerd.WORKERD, "serve", "--experimental"),
                *(["--inspector-addr=127.0.0.1:0"] if inspect else []),
                *(f"--control-fd={control_end}", folder / "config.capnp"),
            ]
            variables = {variable: env[name] for name, variable in texts.items()}
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.PIPE if hosted else subprocess.DEVNULL,
            env={**os.environ, **variables},
            pass_fds=[control_end],
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            self._reader = threading.Thread(target=self._read_logs, daemon=True)
            self._reader.start()
            os.close(control_end)
            if self._process.stdin:
                with suppress(BrokenPipeError):  # the log says why
                    print(json.dumps(worker), file=self._process.stdin, flush=True)
            with os.fdopen(control) as messages:
                inspector = messages.readline() if inspect else ""
                message = messages.readline()
            if not message:
                self.close()  # which waits for the log's last line
                raise RuntimeError("workerd did not start:\n" + "\n".join(self.logs))
            started = json.loads(message)
            self.pid: int = started.get("pid", self._process.pid)
            self.url = f"http://127.0.0.1:{started['port']}"
            self._boot()
            if inspector:
                # Imported here since it needs aiohttp: everything else in this package runs on the
                # standard library, as `local.selfhost` must.
                from local.runtime.inspector import Inspector

                self._inspector = Inspector(json.loads(inspector)["port"])
        except BaseException:  # an interrupt too must not leave workerd behind
            self.close()
            raise

    def memory(self) -> "Memory":
        """What the isolate has in memory now, after its garbage is collected."""
        assert self._inspector, "start the runtime with inspect=True"
        return self._inspector.memory()

    def wait_for_logs(self, enough: Callable[[list[str]], bool], timeout: float = 10) -> None:
        """Return when the log's lines are `enough`; raises TimeoutError."""
        with self._logged:
            if not self._logged.wait_for(lambda: enough(self.logs), timeout):
                raise TimeoutError(f"not in the log after {timeout} s:\n" + "\n".join(self.logs))

    def wait(self) -> None:
        """Wait until workerd has ended, which it does on its own only by a fault: RuntimeError."""
        raise RuntimeError(f"workerd ended with status {self._process.wait()}")

    def close(self) -> None:
        """Stop workerd and remove its files."""
        if self._inspector:
            self._inspector.close()
            self._inspector = None
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()  # miniflare ends with its input, after workerd
        else:
            self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(ProcessLookupError):  # what a miniflare that was killed has left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join()
        self._folder.cleanup()

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _boot(self) -> None:
        # The first request boots Python; what fails there should fail here. A Worker that starts
        # and is misconfigured answers 503.
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=60).read()
        except OSError as error:
            if isinstance(error, HTTPError) and error.code == 503:
                return
            self.close()  # which waits for the log's last line
            raise RuntimeError("The Worker did not start:\n" + "\n".join(self.logs)) from error

    def _read_logs(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._logged:
                self.logs.append(line.rstrip("\n"))
                self._logged.notify_all()
            if self._on_log:
                self._on_log(self.logs[-1])
