"""The directories of embedded stores: who has them, who may, and when they go."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import _data_children as children
import pytest
from _data_children import Mark

import _work as work
from alamo import DataStoreError, DDict, UsageError
from alamo.data import directories
from alamo.data.home import make_home


def place_of(d: DDict[Any, Any]) -> Path:
    return Path(d.stats()["place"])


def script(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that has nothing of this one."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


MAKER = """
    import pickle, sys
    from alamo import DDict
    d = DDict({"a": 1}, name=sys.argv[1] or None)
    print(d.stats()["place"], pickle.dumps(d).hex(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["", "a name"])
def test_what_a_killed_process_leaves_is_swept(name: str) -> None:
    with script(MAKER, name) as maker:
        place, handle = line_of(maker).split()
        with DDict():
            assert os.path.exists(place)
        maker.kill()
        maker.wait()
    assert os.path.exists(place)
    with DDict():
        assert not os.path.exists(place)
    with pytest.raises(DataStoreError, match="is gone"):
        pickle.loads(bytes.fromhex(handle))


def test_it_stays_while_somebody_has_it() -> None:
    with script(MAKER, "") as maker:
        place, handle = line_of(maker).split()
        d = pickle.loads(bytes.fromhex(handle))
        maker.kill()
        maker.wait()
    with DDict():
        assert os.path.exists(place)
    d["b"] = 2
    assert d == {"a": 1, "b": 2}
    d.close()
    assert not os.path.exists(place)


def test_it_stays_until_its_maker_ends() -> None:
    with script(MAKER, "") as maker:
        place, handle = line_of(maker).split()
        for i in range(3):
            d = pickle.loads(bytes.fromhex(handle))
            d["n"] = i
            del d
        assert pickle.loads(bytes.fromhex(handle))["n"] == 2
        assert maker.stdin is not None
        maker.stdin.close()
        assert maker.wait(work.PATIENCE_S) == 0
    assert not os.path.exists(place)


def test_one_without_name_that_nobody_knows_goes_with_its_handle() -> None:
    d: DDict[Any, Any] = DDict({"a": 1})
    place = place_of(d)
    assert place.exists()
    del d
    assert not place.exists()


def test_what_is_kept_goes_when_its_maker_closes_it() -> None:
    d: DDict[Any, Any] = DDict({"a": 1})
    place, handle = place_of(d), pickle.dumps(d)
    del d
    same = pickle.loads(handle)
    assert same == {"a": 1}
    assert place.exists()
    same.close()
    assert not place.exists()


def test_children_of_multiprocessing_leave_nothing() -> None:
    import multiprocessing

    d: DDict[Any, Any] = DDict({"a": 1})
    place = place_of(d)
    process = multiprocessing.get_context("fork").Process(target=d.__setitem__, args=("b", 2))
    process.start()
    del d  # the child has it still
    process.join(work.PATIENCE_S)
    assert process.exitcode == 0
    del process
    assert not place.exists()


@pytest.mark.parametrize("rounds", [10])
def test_many_open_one_name_at_once(rounds: int) -> None:
    """They all get one dictionary, though it comes and goes."""

    def meet(name: str, number: int, ready: Mark) -> None:
        ready.wait(1)
        with DDict(name=name) as d:
            d[number] = number
            work.wait_until(lambda: len(d) >= 4)
            d["seen", number] = True
            work.wait_until(lambda: len(d) == 8)

    for i in range(rounds):
        ready = Mark()
        pids = [children.fork(meet, f"round {i}", number, ready) for number in range(4)]
        ready.value = 1
        assert [children.end_of(pid) for pid in pids] == [0] * 4


def test_a_name_that_comes_and_goes() -> None:
    def come_and_go() -> None:
        for _ in range(100):
            with DDict(name="visited") as d:
                d["a"] = 1
                assert d["a"] == 1

    pids = [children.fork(come_and_go) for _ in range(4)]
    assert [children.end_of(pid) for pid in pids] == [0] * 4


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_may_not() -> None:
    with DDict({"secret": 1}) as d:
        handle, place = pickle.dumps(d), place_of(d)

        def spy() -> None:
            os.setgid(65534)
            os.setuid(65534)
            with pytest.raises(UsageError, match="only its owner may open"):
                pickle.loads(handle)
            for path in (place, place.parent, place / "records", place / "about"):
                with pytest.raises(PermissionError):
                    os.open(path, os.O_RDONLY)
            with pytest.raises(PermissionError):
                list(place.parent.iterdir())

        pid = os.fork()
        if pid == 0:
            from alamo.data import home

            status = 1
            try:
                home._homes.clear()  # what it has open it may of course read
                spy()
                status = 0
            finally:
                os._exit(status)
        assert children.end_of(pid) == 0


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    base = tmp_path / "base"
    user = base / f"alamo-{os.getuid()}"
    user.mkdir(parents=True)
    user.chmod(0o755)
    with pytest.raises(UsageError, match=r"private directory.*ALAMO_DATA_DIR"):
        DDict(directory=base)
    user.rmdir()
    user.symlink_to(tmp_path)
    with pytest.raises(UsageError, match="private directory"):
        DDict(directory=base)
    with pytest.raises(UsageError, match="cannot be made"):
        DDict(directory="/proc/nowhere")


def test_a_directory_with_a_long_name(tmp_path: Path) -> None:
    """Its sockets have addresses all the same."""
    directory = tmp_path / ("long" * 30)
    with DDict(directory=directory) as d:
        assert str(directory) in d.stats()["place"]

        def answer() -> None:
            d["answer"] = d.wait_for("question", timeout=work.PATIENCE_S) + 1

        with children.child(answer):
            d["question"] = 1
            assert d.wait_for("answer", timeout=work.PATIENCE_S) == 2


def test_the_environment_names_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALAMO_DATA_DIR", str(tmp_path / "here"))
    with DDict() as d:
        assert str(tmp_path / "here") in d.stats()["place"]
        with d.copy() as sibling:
            assert str(tmp_path / "here") in sibling.stats()["place"]


def test_what_was_never_finished_is_swept_later() -> None:
    with DDict() as d:
        parent = place_of(d).parent
        young, old = parent / ".young", parent / ".old"
        young.mkdir()
        old.mkdir()
        os.utime(old, (time.time() - 100, time.time() - 100))
        with DDict():
            assert young.exists()
            assert not old.exists()
        young.rmdir()


def test_another_format_is_refused() -> None:
    home = make_home("ddict")
    path = Path(home.path) / "about"
    path.write_text(path.read_text().replace('"format":1', '"format":2'))
    handle = pickle.dumps(home.path)

    def open_it() -> None:
        from alamo.data import home as homes

        homes._leave_all()
        with pytest.raises(DataStoreError, match="format 2"):
            homes.share_home(pickle.loads(handle))

    with children.child(open_it):
        pass
    home.release()
    assert not path.exists()


def test_a_program_that_is_executed_holds_nothing() -> None:
    d: DDict[Any, Any] = DDict({"a": 1})
    d["large"] = bytes(100_000)
    place = place_of(d)
    sleeper = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        d.close()
        assert not place.exists()
    finally:
        sleeper.send_signal(signal.SIGKILL)
        sleeper.wait()


def test_sweeping_skips_what_is_no_directory() -> None:
    with DDict() as d:
        parent = place_of(d).parent
        (parent / "file").write_text("")
        assert directories.sweep(str(parent), ()) == []
        (parent / "file").unlink()


def test_a_transaction_cannot_destroy_what_it_changes() -> None:
    with DDict({"a": 1}) as d:
        with d.transaction():
            d["a"] = 2
            with pytest.raises(UsageError, match="leave the block first"):
                d.destroy()
        assert d["a"] == 2
