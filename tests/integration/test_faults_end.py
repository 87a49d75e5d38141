"""The end of a service: nobody waits for ever, whoever is slow, stopped or killed meanwhile."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import _faults as f
import pytest

from alamo import Batch, BatchBroken, WaitTimeout
from alamo.protocol import messages as msg

#: More results than a socket takes, each of which is answered; the client is stopped meanwhile.
SLOW = """
import os, signal, sys
os.environ["ALAMO_RESULT_MEMORY"] = "0"
import _faults as f
from alamo import Batch
from alamo.batch.outlet import Outlet
from alamo.protocol.messages import JoinAsked
def blocking_post(self, message):
    try:
        self.send([message])
    except OSError:
        pass
if __name__ == "__main__":
    log, blocking = sys.argv[1:]
    if blocking == "True":
        Outlet.post = blocking_post
    batch = Batch(num_workers=2, log_level="CRITICAL")
    tasks = [batch.function(f.noted_bytes, log, 70_000, 0.003) for _ in range(600)]
    program = batch.compile(tasks)
    program.start()
    batch.close()
    batch._client.send([JoinAsked()])
    print(f.manager_of(batch))
    os.kill(os.getpid(), signal.SIGSTOP)
    batch.join(timeout=f.PATIENCE_S)
    print(sum(len(task.result.get()) for task in tasks))
"""


def wait_idle(pid: int) -> None:
    """Until a process has used no time for a while: it waits for somebody."""

    def look() -> bool:
        before = f.cpu_ticks(pid)
        signal.sigtimedwait([], 0.2)
        return f.cpu_ticks(pid) == before

    f.until(look, f"process {pid} to rest")


@pytest.mark.parametrize("blocking", [False, True])
def test_a_client_answers_while_the_manager_says_goodbye(tmp_path: Path, blocking: bool) -> None:
    """Also one that reads no more before it has got rid of its answers."""
    log = tmp_path / "log"
    with f.Script(SLOW, log, blocking) as client:
        manager = int(client.line())
        f.until(lambda: len(f.notes(log)) == 600)
        wait_idle(manager)
        os.kill(client.pid, signal.SIGCONT)
        assert client.line() == str(600 * 70_000)
        assert client.wait() == 0


#: A further client that lets its results come and takes none.
STOPPED = """
import os, pickle, signal, sys
import _faults as f
if __name__ == "__main__":
    batch = pickle.loads(bytes.fromhex(sys.argv[1]))
    tasks = [batch.function(f.noted_bytes, sys.argv[2], 60_000, 0.0) for _ in range(40)]
    batch.compile(tasks).start()
    batch.close()
    print("closed")
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@contextmanager
def stopped_clients(batch: Any, count: int, log: Path) -> Iterator[None]:
    """Clients that hold the end up, for all work of which only the last results are not taken."""
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(f.Script(STOPPED, pickle.dumps(batch).hex(), log))
            assert client.line() == "closed"
            f.until(lambda client=client: f.stopped(client.pid))
        f.until(lambda: len(f.notes(log)) == 40 * count)
        yield


def took_s(call: Callable[[], object]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def test_join_keeps_its_timeout(tmp_path: Path) -> None:
    """And terminate ends what it gave up waiting for."""
    batch = Batch(num_workers=1, log_level="CRITICAL")
    with stopped_clients(batch, 1, tmp_path / "log"):
        batch.close()

        def join() -> None:
            with pytest.raises(WaitTimeout, match="another client"):
                batch.join(timeout=0.5)

        assert 0.4 < took_s(join) < f.WAIT_S
        assert took_s(batch.terminate) < f.WAIT_S


def test_one_deadline_for_all(tmp_path: Path) -> None:
    """And not one after the other."""
    batch = f.changed_batch("import alamo.manager.goodbye as g; g.LAST_RESULTS_S = 3.0")
    with stopped_clients(batch, 5, tmp_path / "log"):
        batch.close()
        assert 2.5 < took_s(lambda: batch.join(timeout=f.PATIENCE_S)) < 5 * 3.0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_manager_is_ended_while_it_says_goodbye(tmp_path: Path, number: int) -> None:
    """The results are here, so that is no error; nothing is left behind."""
    batch = Batch(num_workers=2, log_level="CRITICAL")
    with stopped_clients(batch, 1, tmp_path / "log"):
        result = batch.function(f.double, 4).start()[0]
        batch.close()
        with pytest.raises(WaitTimeout):
            batch.join(timeout=0.2)
        os.kill(f.manager_of(batch), number)
        batch.join(timeout=f.WAIT_S)
        assert result.get() == 8
        assert not Path(batch._client.address).parent.exists()


def test_the_primary_is_killed_while_the_manager_says_goodbye(tmp_path: Path) -> None:
    code = """
    import os, signal, sys
    from pathlib import Path
    import _faults as f
    from test_faults_end import stopped_clients
    from alamo import Batch
    if __name__ == "__main__":
        batch = Batch(num_workers=1, log_level="CRITICAL")
        print(f.manager_of(batch))
        with stopped_clients(batch, 1, Path(sys.argv[1])):
            batch.close()
            try:
                batch.join(timeout=0.2)
            except TimeoutError:
                print("waiting")
                sys.stdin.readline()
    """
    with f.Script(code, tmp_path / "log") as primary:
        pids = [int(primary.line())]
        assert primary.line() == "waiting"
        pids += f.descendants(primary.pid)
        os.kill(primary.pid, signal.SIGKILL)
        try:
            f.wait_gone([pid for pid in pids if not f.stopped(pid)])
        finally:
            f.kill(*[pid for pid in pids if f.stopped(pid)])


@pytest.mark.parametrize("number", ["SIGKILL", "SIGSTOP"])
def test_the_nursery_fails_at_the_end(number: str) -> None:
    batch = f.changed_batch(
        "import os, signal, alamo.manager.pool as p; end = p.Pool.end_all; "
        f"p.Pool.end_all = lambda self: (os.kill(self._nursery.pid, signal.{number}), end(self))"
    )
    assert batch.function(f.double, 4).run(timeout=f.PATIENCE_S) == 8
    pids = f.descendants(f.manager_of(batch))
    batch.close()
    batch.join(timeout=f.PATIENCE_S)
    assert not any(map(f.alive, pids))


def test_a_second_join_meets_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager ends, as it was asked to, before the second join can ask for it again."""
    import _work as work  # the scripts in here, which import this module, do not find it

    gate = tmp_path / "gate"
    batch = Batch(num_workers=1)
    task = batch.function(work.wait_for_file, str(gate))
    task.start()
    batch.close()
    with pytest.raises(WaitTimeout):
        batch.join(0.2)
    client = batch._client
    send = client.send

    def too_late(messages: Sequence[msg.Message], fds: Sequence[int] = ()) -> None:
        if any(isinstance(message, msg.JoinAsked) for message in messages):
            raise BatchBroken("the connection to the manager is broken")
        send(messages, fds)

    monkeypatch.setattr(client, "send", too_late)
    gate.touch()
    batch.join(f.PATIENCE_S)
    task.get()
