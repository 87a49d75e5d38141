"""Workers that never come up, plain ones and those with a binding of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import _faults as f
import pytest

from alamo import BatchBroken, Policy, UpstreamFailed, WorkerLost

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

#: Runs the nursery, whose children end before they have said a word.
STILLBORN = """#!{python}
import os, sys
nursery, real = os.getpid(), os.fork
def fork():
    pid = real()
    if not pid and os.getppid() == nursery:
        os.kill(os.getpid(), 9)
    return pid
os.fork = fork
code = sys.argv[3]
sys.argv[:] = sys.argv[3:]
exec(code)
"""


def test_stillborn_workers_give_a_clear_error(tmp_path: Path) -> None:
    """When no worker comes up the Batch ends with the reason instead of trying for ever."""
    script = tmp_path / "python"
    script.write_text(STILLBORN.format(python=sys.executable))
    script.chmod(0o700)
    batch = f.changed_batch(f"import alamo.manager.pool as p; p.sys.executable = {str(script)!r}")
    try:
        with pytest.raises(BatchBroken, match="workers in a row died while starting"):
            batch.function(f.double, 3).run(timeout=60)
    finally:
        batch.terminate()


def test_workers_with_a_binding_that_never_come_up() -> None:
    """What needs one fails with the reason, and the Batch goes on."""
    code = (
        "import alamo.manager.inquiries as q; from alamo.protocol.bindings import Binding; "
        "q.Inquiries.wire_binding = lambda self, b: Binding(2, None, (99_999,) * (b.cores == 2))"
    )
    with f.ended(f.changed_batch(code, log_level="CRITICAL")) as batch:
        bad = [batch.function(f.double, n, policy=Policy(cores=2)) for n in range(3)]
        after = batch.function(f.double, bad[0].result)
        beside = batch.function(f.double, 4)
        program = batch.compile([*bad, after, beside])
        program.start()
        for task in bad:
            with pytest.raises(WorkerLost, match="cannot be pinned to CPU 99999") as caught:
                task.result.get(timeout=f.PATIENCE_S)
            assert f"{task.title()} did not run: 5 workers in a row" in str(caught.value)
            assert caught.value.uid == task.uid
            assert task.stderr.get() == ""
        with pytest.raises(UpstreamFailed):
            after.result.get(timeout=f.PATIENCE_S)
        assert beside.result.get(timeout=f.PATIENCE_S) == 8
        later = batch.function(f.double, 1, policy=Policy(cores=2))
        with pytest.raises(WorkerLost, match="6 workers in a row"):
            later.run(timeout=f.PATIENCE_S)
