"""What ends an executor: shutdown, the last reference to it, the exit of the process, a fork."""

from __future__ import annotations

import gc
from pathlib import Path

import _work as work
from alamo import AlamoExecutor


def test_an_executor_that_is_dropped_ends_behind_its_calls() -> None:
    executor = AlamoExecutor(2)
    results = executor.map(work.same, range(1000))
    thread = executor._dispatcher.thread
    del executor
    gc.collect()
    assert list(results) == list(range(1000))
    thread.join(work.PATIENCE_S)
    assert not thread.is_alive()


def test_it_ends_its_own_batch() -> None:
    with AlamoExecutor(max_workers=1) as executor:
        assert executor.submit(work.same, 1).result() == 1
    assert executor._dispatcher.batch._joined


def test_calls_end_at_a_clean_exit(tmp_path: Path) -> None:
    script = """
        import time
        from alamo import AlamoExecutor

        def slow(text):
            time.sleep(0.1)
            print(text)

        if __name__ == "__main__":
            executor = AlamoExecutor(1)
            for text in ("apple", "pear", "plum"):
                executor.submit(slow, text)
            {end}
        """
    for end in ("", "executor.shutdown(wait=False)", "del executor"):
        source = "\n".join(line[8:] for line in script.format(end=end).splitlines())
        assert work.run_script(tmp_path, source).stdout == "apple\npear\nplum\n"


def test_calls_are_dropped_after_a_crash(tmp_path: Path) -> None:
    source = """if True:
        import time
        from alamo import AlamoExecutor

        if __name__ == "__main__":
            executor = AlamoExecutor(1)
            futures = [executor.submit(time.sleep, 60) for _ in range(10)]
            raise SystemError("crash")
        """
    with work.quick(work.PATIENCE_S):
        done = work.run_script(tmp_path, source, check=False)
    assert done.returncode == 1
    assert "SystemError: crash" in done.stderr


def test_a_forked_child_makes_an_executor_of_its_own(tmp_path: Path) -> None:
    source = """if True:
        import os
        from alamo import AlamoExecutor

        if __name__ == "__main__":
            with AlamoExecutor(1) as executor:
                assert executor.submit(pow, 2, 3).result() == 8
                child = os.fork()
                if not child:
                    try:
                        executor.submit(pow, 2, 3)
                    except RuntimeError as error:
                        print(error, flush=True)
                    os._exit(0)
                os.waitpid(child, 0)
                assert executor.submit(pow, 2, 4).result() == 16
        """
    out = work.run_script(tmp_path, source).stdout
    assert out == "this executor was made before the fork; make one in this process\n"
