"""A workerd process on this machine that runs what `wrangler deploy` uploads: `src/` and
`python_modules/`, with the compatibility date and flags of `wrangler.toml`."""

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
from local.runtime.snapshots import snapshot_of
from local.runtime.workerd import HERE, NODE_MODULES, bundle, require_installed

if TYPE_CHECKING:
    from local.runtime.inspector import Memory


class Runtime:
    """A running workerd with the Worker in it, on loopback.

    `env` is the Worker's environment: strings become text bindings, other values JSON bindings.
    `allow` has the networks that its `fetch` may reach, by workerd's names: `local` is loopback;
    `private` and `public` are the others. `port` 0 selects a free one. Each line of the log is
    appended to `logs` and passed to `on_log`. `modules` are the Python modules, from path to
    source; the default is `bundle()`. `without_flags` has compatibility flags of `wrangler.toml`
    to leave out.

    `queues` maps a binding to the settings of its queue's consumer, which is the Worker itself,
    under the names of `[[queues.consumers]]`: `{"TRACE_QUEUE": {"queue": "traces", "max_retries":
    3}}`. The queues are simulated by miniflare, in memory. A message in a dead-letter queue becomes
    a line of the log: `{"event": "dead_letter", "queue": ..., "text": ...}`, with `base64` in place
    of `text` for a message of bytes. `rate_limits` maps a binding to its limit, under the names of
    `[ratelimits.simple]`: `{"RATE_LIMIT": {"limit": 5, "period": 10}}`. miniflare simulates these
    too. Without either, workerd runs without miniflare, which takes less CPU. There is always a
    cache for the Cache API, which ends with the runtime.

    `url` is the Worker's address, `pid` the process id of workerd. `memory` works only with
    `inspect`, and without miniflare. It is a context manager; otherwise call `close`.

    Raises `NotInstalled`, and RuntimeError, with the reason or the log, where the Worker cannot be
    imported or does not start.
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
        modules = bundle() if modules is None else modules
        snapshot = snapshot_of(modules)
        self.logs: list[str] = []
        self._logged = threading.Condition()
        self._on_log = on_log
        self._inspector: Any = None
        self._folder = tempfile.TemporaryDirectory(prefix="gateway-")
        folder = Path(self._folder.name)
        workerd.write_modules(folder, modules, snapshot, links=True)
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
                with suppress(BrokenPipeError):  # it has ended, and its log has the reason
                    print(json.dumps(worker), file=self._process.stdin, flush=True)
            with os.fdopen(control) as messages:
                inspector = messages.readline() if inspect else ""
                message = messages.readline()
            if not message:
                self.close()  # waits for the log's last line
                raise RuntimeError("workerd did not start:\n" + "\n".join(self.logs))
            started = json.loads(message)
            self.pid: int = started.get("pid", self._process.pid)
            self.url = f"http://127.0.0.1:{started['port']}"
            self._boot()
            if inspector:
                # Imported here because it requires aiohttp: `local.selfhost` imports this package
                # with the standard library alone.
                from local.runtime.inspector import Inspector

                self._inspector = Inspector(json.loads(inspector)["port"])
        except BaseException:  # also an interrupt, which must not leave workerd running
            self.close()
            raise

    def memory(self) -> "Memory":
        """The memory of the isolate after a garbage collection."""
        assert self._inspector, "start the runtime with inspect=True"
        return self._inspector.memory()

    def wait_for_logs(self, enough: Callable[[list[str]], bool], timeout: float = 10) -> None:
        """Return as soon as `enough` returns True for the lines of the log. Raises TimeoutError
        after `timeout` seconds."""
        with self._logged:
            if not self._logged.wait_for(lambda: enough(self.logs), timeout):
                raise TimeoutError(f"not in the log after {timeout} s:\n" + "\n".join(self.logs))

    def wait(self) -> None:
        """Wait until workerd ends, and raise RuntimeError: it ends only after a failure."""
        raise RuntimeError(f"workerd ended with status {self._process.wait()}")

    def close(self) -> None:
        """Stop workerd and remove its files."""
        if self._inspector:
            self._inspector.close()
            self._inspector = None
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()  # then miniflare ends workerd and itself
        else:
            self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(ProcessLookupError):  # a miniflare that was killed has not ended workerd
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
        # The first request starts Python; a failure of that is raised here. A Worker that starts
        # and is misconfigured answers 503.
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=60).read()
        except OSError as error:
            if isinstance(error, HTTPError) and error.code == 503:
                return
            self.close()  # waits for the log's last line
            raise RuntimeError("The Worker did not start:\n" + "\n".join(self.logs)) from error

    def _read_logs(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._logged:
                self.logs.append(line.rstrip("\n"))
                self._logged.notify_all()
            if self._on_log:
                self._on_log(self.logs[-1])
