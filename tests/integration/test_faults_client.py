"""Clients that die or are interrupted: their Batch ends with them, the others go on."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from pathlib import Path

import _faults as f
import pytest

from alamo import Batch

#: A client that makes a Batch, starts tasks and says who runs; then does what it is told.
PRIMARY = """
import os, pickle, signal, sys, time
import _faults as f
from test_faults_nursery import start_sessions
from alamo import Batch
if __name__ == "__main__":
    log, what = sys.argv[1:]
    batch = Batch(num_workers=2, log_level="CRITICAL")
    tasks = [batch.function(start_sessions, log), batch.function(f.noted_pid_then_sleep, log)]
    program = batch.compile(tasks)
    program.start()
    f.until(lambda: len(f.notes(log)) == 4)
    print(f.manager_of(batch), f.nursery_of(batch), *f.descendants(f.manager_of(batch)))
    print(pickle.dumps(batch).hex())
    if what == "fork":
        # A child that has not closed what it inherited: as a C library forks.
        import ctypes
        child = ctypes.CDLL(None).fork()
        if child == 0:
            for fd in (0, 1, 2):
                os.close(fd)
            time.sleep(600)
        print(child)
    if what == "exit":
        sys.stdin.readline()
        os._exit(3)
    program.wait()
"""


def script(
    tmp_path: Path, what: str = "wait", **options: object
) -> tuple[f.Script, list[int], str]:
    """The client, the processes of its Batch, and the Batch, pickled."""
    client = f.Script(PRIMARY, tmp_path / "log", what, **options)
    try:
        pids = [int(pid) for pid in client.line().split()]
        pickled = client.line()
    except BaseException:
        client.__exit__()
        raise
    assert set(map(int, f.notes(tmp_path / "log"))) <= set(pids)
    return client, pids, pickled


@pytest.mark.parametrize("what", ["SIGKILL", "SIGTERM", "SIGSEGV", "exit", "fork"])
def test_nothing_runs_after_the_primary_client(tmp_path: Path, what: str) -> None:
    """Also tasks' children in sessions of their own; nothing is left in /tmp."""
    client, pids, _ = script(tmp_path, what)
    with client:
        if what == "exit":
            client.tell("go")
        else:
            child = int(client.line()) if what == "fork" else 0
            os.kill(client.pid, getattr(signal, what, signal.SIGKILL))
        begin = time.monotonic()
        f.wait_gone(pids)
        assert time.monotonic() - begin < f.WAIT_S
        if what == "fork":
            f.kill(child)


def test_primary_manager_and_nursery_at_once(tmp_path: Path) -> None:
    """Nobody is left to clean up: the workers end all the same, the next Batch does the rest."""
    client, pids, _ = script(tmp_path)
    with client:
        manager, nursery, *others = pids
        workers = [p for p in others if f.comm(p).startswith("alamo-worker")]
        f.kill_at_once(client.pid, manager, nursery)
        f.wait_gone(workers)
        with Batch(num_workers=1):
            f.wait_gone(others)


@pytest.mark.parametrize("blocked", [False, True])
def test_ctrl_c(tmp_path: Path, blocked: bool) -> None:
    """SIGINT to the whole group of a script in ``wait()``, as a terminal sends it."""
    client, pids, _ = script(tmp_path, start_new_session=True)
    with client:
        if blocked:  # in a worker it is no different
            for pid in pids:
                f.kill(pid, number=signal.SIGSTOP) if f.comm(pid) == "sleep" else None
        os.killpg(client.pid, signal.SIGINT)
        assert client.wait() != 0
        f.wait_gone(pids)
        assert "KeyboardInterrupt" in "".join(client.err)


def test_ctrl_c_in_a_with_block(tmp_path: Path) -> None:
    code = """
    import sys
    import _faults as f
    from alamo import Batch
    if __name__ == "__main__":
        try:
            with Batch(num_workers=2) as batch:
                task = batch.function(f.noted_pid_then_sleep, sys.argv[1])
                task.start()
                f.wait_note(sys.argv[1])
                print(f.manager_of(batch), *f.descendants(f.manager_of(batch)))
                task.result.get()
        except KeyboardInterrupt:
            print("interrupted", *[p for p in f.descendants(f.os.getpid())])
    """
    with f.Script(code, tmp_path / "log", start_new_session=True) as client:
        pids = [int(pid) for pid in client.line().split()]
        os.killpg(client.pid, signal.SIGINT)
        assert client.line() == "interrupted"
        assert not any(map(f.alive, pids))
        assert client.wait() == 0
        assert client.err == []


def test_ctrl_c_while_data_is_sent(tmp_path: Path) -> None:
    """In the middle of a message: the Batch cannot go on, and says so at once."""
    code = """
    import os, signal, threading
    import _faults as f
    from alamo import Batch, BatchBroken
    def interrupt():
        f.wait_sends(threading.main_thread().ident)
        os.kill(os.getpid(), signal.SIGINT)
    if __name__ == "__main__":
        batch = Batch(num_workers=1, log_level="CRITICAL")
        manager = f.manager_of(batch)
        pids = [manager, *f.descendants(manager)]
        os.kill(manager, signal.SIGSTOP)
        threading.Thread(target=interrupt, daemon=True).start()
        try:
            f.much_data(batch).run()
        except KeyboardInterrupt:
            print("interrupted")
        os.kill(manager, signal.SIGCONT)
        try:
            batch.function(f.double, 3).run()
        except BatchBroken as error:
            print(error)
        f.wait_gone(pids)
        print("gone")
    """
    with f.Script(code) as client:
        assert client.line() == "interrupted"
        assert client.line()
        assert client.line() == "gone"
        assert client.wait() == 0


SECONDARY = """
import pickle, sys
import _faults as f
from alamo import BatchBroken
if __name__ == "__main__":
    batch = pickle.loads(bytes.fromhex(sys.argv[1]))
    task = batch.function(f.noted_pid_then_sleep, sys.argv[2])
    task.start()
    print("started")
    try:
        task.result.get()
    except BatchBroken as error:
        print(error)
"""


def test_other_clients_are_told(tmp_path: Path) -> None:
    client, pids, pickled = script(tmp_path)
    with client, f.Script(SECONDARY, pickled, tmp_path / "other") as other:
        assert other.line() == "started"
        os.kill(client.pid, signal.SIGKILL)
        assert "the primary client is gone" in other.line(f.WAIT_S)
        assert other.wait() == 0
        f.wait_gone(pids)


def test_killed_secondary_client(tmp_path: Path) -> None:
    """Its tasks go on, others are unaffected, and join counts it as closed."""
    code = """
    import pickle, sys, time
    import _faults as f
    if __name__ == "__main__":
        batch = pickle.loads(bytes.fromhex(sys.argv[1]))
        for i in range(20):
            batch.function(f.noted, sys.argv[2], i, 0.01).start()
        waiting = batch.compile([batch.function(f.noted, sys.argv[2], "never")])
        print("started")
        time.sleep(600)
    """
    log, mine = str(tmp_path / "log"), str(tmp_path / "mine")
    with f.ended(Batch(num_workers=2)) as batch:
        pickled = pickle.dumps(batch).hex()
        scripts = [f.Script(code, pickled, log) for _ in range(2)]
        tasks = [batch.function(f.noted, mine, i, 0.01) for i in range(60)]
        program = batch.compile(tasks)
        program.start()
        for other in scripts:
            with other:
                assert other.line() == "started"
                os.kill(other.pid, signal.SIGKILL)
        program.wait(timeout=60)
        assert [t.result.get() for t in tasks] == list(range(60))
        batch.close()
        batch.join(timeout=f.WAIT_S)
        assert sorted(f.notes(log)) == sorted(str(i) for i in [*range(20), *range(20)])
        assert not f.repeated(mine)


def test_stopped_secondary_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with f.ended(Batch(num_workers=1)) as batch:
        pickled = pickle.dumps(batch).hex()
        with f.Script(SECONDARY, pickled, tmp_path / "log") as other:
            assert other.line() == "started"
            f.wait_note(tmp_path / "log")
            os.kill(other.pid, signal.SIGSTOP)
            begin = time.monotonic()
            batch.terminate()
            assert time.monotonic() - begin < f.WAIT_S


def test_client_killed_while_it_registers(tmp_path: Path) -> None:
    code = """
    import os, pickle, signal, sys
    from alamo.protocol import auth
    def proof(*_):
        os.kill(os.getpid(), signal.SIGKILL)
    auth.proof = proof
    pickle.loads(bytes.fromhex(sys.argv[1]))
    """
    with f.ended(Batch(num_workers=1)) as batch:
        with f.Script(code, pickle.dumps(batch).hex()) as other:
            assert other.wait() == -signal.SIGKILL
        assert batch.function(f.double, 2).run(timeout=60) == 4


def test_blocked_signals_are_not_inherited(tmp_path: Path) -> None:
    """A client thread may block or ignore signals; the service does not depend on it."""
    code = """
    import os, signal, sys
    import _faults as f
    from alamo import Batch, WorkerLost
    if __name__ == "__main__":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        batch = Batch(num_workers=1, log_level="CRITICAL")
        try:
            batch.function(f.die, "SIGTERM").run(timeout=60)
        except WorkerLost as error:
            print(error.signal)
        print(batch.function(signal.pthread_sigmask, signal.SIG_BLOCK, ()).run(timeout=60))
        f.kill(f.nursery_of(batch))
        print(batch.function(f.double, 4).run(timeout=60))
        batch.close()
        batch.join(timeout=60)
        print("joined")
    """
    with f.Script(code) as client:
        assert [client.line() for _ in range(4)] == ["15", "set()", "8", "joined"]


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_closed_standard_descriptors(tmp_path: Path, closed: str) -> None:
    """A daemon may run with descriptors 0, 1 and 2 closed."""
    code = """
    import os, sys
    for fd in map(int, sys.argv[1]):
        os.close(fd)
    import _faults as f
    from alamo import Batch
    if __name__ == "__main__":
        with Batch(num_workers=2) as batch:
            task = batch.function(print, "hello")
            task.run(timeout=60)
            f.note(sys.argv[2], task.stdout.get().strip())
            tasks = [batch.function(f.double, i) for i in range(100)]
            batch.compile(tasks).run(timeout=60)
            f.note(sys.argv[2], sum(t.result.get() for t in tasks))
        f.note(sys.argv[2], "joined")
    """
    log = tmp_path / "log"
    with f.Script(code, closed, log) as client:
        f.until(lambda: len(f.notes(log)) == 3)
        assert f.notes(log) == ["hello", "9900", "joined"]
        assert client.wait() in (0, 120)  # 120: the interpreter cannot flush its closed stdout


def test_many_threads_and_a_terminate(tmp_path: Path) -> None:
    """Threads that submit and wait while another terminates: each ends with an error."""
    from alamo import AlamoError

    for _ in range(5):
        batch = Batch(num_workers=2, log_level="CRITICAL")
        ended: list[type[BaseException]] = []

        def work(batch: Batch = batch, ended: list[type[BaseException]] = ended) -> None:
            try:
                while True:
                    batch.compile([batch.function(f.double, i) for i in range(20)]).run()
                    batch.function(f.double, 3).run()
            except AlamoError as error:
                ended.append(type(error))

        threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        batch.terminate()
        for thread in threads:
            thread.join(f.WAIT_S)
        assert len(ended) == len(threads), "a wait goes on"
