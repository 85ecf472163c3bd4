"""The local runtime itself."""

import os

import pytest

from local.runtime import Runtime, bundle


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_start_leaves_no_workerd_behind(monkeypatch, fault):
    started = []

    def interrupt(runtime: Runtime) -> None:
        started.append(runtime.pid)
        raise fault

    monkeypatch.setattr(Runtime, "_boot", interrupt)
    with pytest.raises(fault):
        Runtime({})
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_worker_that_does_not_import_says_why():
    with pytest.raises(RuntimeError, match="no_such_module"):
        Runtime({}, modules={**bundle(), "entry.py": "import no_such_module"})
