"""Tasks that run executables: what a user may rely on, whatever runs them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import _work as work
import alamo
from alamo import Batch, ProcessFailed, UsageError

NUM_WORKERS = 2


def outputs(task: Any) -> tuple[Any, Any]:
    return task.stdout.get(), task.stderr.get()


def failure(task: Any) -> ProcessFailed:
    with pytest.raises(ProcessFailed) as caught:
        task.run(timeout=work.PATIENCE_S)
    return caught.value


def shell(batch: Batch, line: str, **options: Any) -> Any:
    return batch.process(line, shell=True, **options)


# -- results and output ------------------------------------------------------------------------


def test_exit_code_and_both_outputs(batch: Batch) -> None:
    task = shell(batch, "echo out; echo err >&2")
    assert task.run(timeout=work.PATIENCE_S) == 0
    assert outputs(task) == ("out\n", "err\n")
    assert "Process" in repr(task)
    silent = batch.process(["true"])
    assert silent.run(timeout=work.PATIENCE_S) == 0
    assert outputs(silent) == ("", "")


def test_a_failure_says_what_ran_and_shows_the_last_lines(batch: Batch) -> None:
    line = "seq 100; echo first >&2; echo last words >&2; exit 3"
    task = shell(batch, line, name="sums")
    error = failure(task)
    assert isinstance(error, subprocess.CalledProcessError)
    assert isinstance(error, alamo.AlamoError)
    assert (error.returncode, error.cmd) == (3, line)
    assert error.stdout == error.output == task.stdout.get()
    assert error.stderr == "first\nlast words\n"
    text = str(error)
    assert "non-zero exit status 3" in text
    assert "last words" in text
    assert "\n  100\n" in text
    assert "\n  80\n" not in text
    assert any("sums" in note for note in error.__notes__)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == text
    assert (again.returncode, again.cmd, again.stderr) == (3, line, error.stderr)
    assert failure(batch.process(["false"])).cmd == ["false"]


def test_check_false_makes_the_code_a_result(batch: Batch) -> None:
    assert shell(batch, "exit 7", check=False).run(timeout=work.PATIENCE_S) == 7
    error = failure(shell(batch, "kill -TERM $$", check=False))
    assert error.returncode == -signal.SIGTERM
    assert "SIGTERM" in str(error)


def test_exit_by_signal(batch: Batch) -> None:
    error = failure(shell(batch, "echo before; kill -SEGV $$"))
    assert error.returncode == -signal.SIGSEGV
    assert "SIGSEGV" in str(error)
    assert error.stdout == "before\n"


def test_text_and_bytes(batch: Batch) -> None:
    raw = r"printf 'caf\351\r\nx'"
    cases: list[tuple[dict[str, Any], Any]] = [
        ({}, "caf\\xe9\r\nx"),
        ({"text": False}, b"caf\xe9\r\nx"),
        ({"text": True}, "caf\\xe9\nx"),
        ({"universal_newlines": True}, "caf\\xe9\nx"),
        ({"encoding": "latin-1"}, "café\nx"),
        ({"errors": "replace"}, "caf\ufffd\nx"),
    ]
    tasks = [shell(batch, raw, **options) for options, _ in cases]
    readers = [batch.function(repr, task.stdout) for task in tasks]
    whole = batch.compile([*tasks, *readers])
    whole.run(timeout=work.PATIENCE_S)
    for task, reader, (_, expected) in zip(tasks, readers, cases, strict=True):
        assert task.stdout.get() == whole.stdout.get(task.uid) == expected
        assert task.stderr.get() == expected[:0]
        assert reader.result.get() == repr(expected)
    strict = shell(batch, raw, errors="strict")
    strict.run(timeout=work.PATIENCE_S)
    with pytest.raises(UnicodeDecodeError):
        strict.stdout.get()


def test_bytes_of_tasks_that_did_not_run_or_failed(batch: Batch) -> None:
    bad = shell(batch, "printf '\\377'; exit 1", text=False)
    skipped = batch.process(["echo", bad.result], text=False)
    batch.compile([bad, skipped]).start()
    assert skipped.stdout.get(timeout=work.PATIENCE_S) == b""
    with pytest.raises(ProcessFailed) as caught:
        bad.result.get()
    assert caught.value.stdout == b"\xff"
    with pytest.raises(alamo.UpstreamFailed):
        skipped.result.get()


def test_long_output_keeps_head_and_tail(batch: Batch) -> None:
    line = "echo head; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo tail"
    tasks = [shell(batch, line), shell(batch, line, encoding="utf-16-le")]
    for task in tasks:
        task.run(timeout=work.PATIENCE_S)
    text = tasks[0].stdout.get()
    assert 1_000_000 < len(text) < 1_100_000
    assert text.startswith("head\nxxx")
    assert text.endswith("xxx\ntail\n")
    assert "bytes left out" in text
    assert "bytes left out" in tasks[1].stdout.get()


def test_callback(batch: Batch) -> None:
    got: list[Any] = []
    task = batch.process(["true"], callback_func=lambda *a: got.append(a), callback_args=(5,))
    task.run(timeout=work.PATIENCE_S)
    assert got == [(0, 5)]


# -- streams -----------------------------------------------------------------------------------


def test_stdin(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("from a file")
    tasks = [
        batch.process(["cat"]),
        batch.process(["cat"], stdin=b"bytes \xc3\xa9"),
        batch.process(["cat"], stdin=path),
        batch.process(["cat"], stdin=str(path)),
        batch.process(["cat"], stdin=subprocess.DEVNULL),
        batch.process(["wc", "-c"], stdin=b"x" * 3_000_000),
        batch.process(["true"], stdin=b"x" * 3_000_000),
    ]
    batch.compile(tasks).run(timeout=work.PATIENCE_S)
    expected = ["", "bytes é", "from a file", "from a file", "", "3000000\n", ""]
    assert [task.stdout.get() for task in tasks] == expected


def test_handles_as_input_and_arguments(batch: Batch, tmp_path: Path) -> None:
    def make() -> str:
        return "b\na\n"

    def number() -> int:
        return 4

    def place() -> Path:
        return tmp_path

    made, four, where = batch.function(make), batch.function(number), batch.function(place)
    raw = shell(batch, r"printf '\377\0\n'")
    ordered = batch.process(["sort"], stdin=made.result)
    tasks = [
        ordered,
        batch.process(["od", "-An", "-tx1"], stdin=raw.stdout),
        batch.process(["seq", four.result]),
        batch.process(["cat"], stdin=ordered.stdout),
        batch.process(["pwd"], cwd=where.result),
        batch.process(["sh", "-c", "echo $V"], env={"V": four.result, "PATH": os.defpath}),
        batch.function(str.upper, ordered.stdout),
    ]
    batch.compile([made, four, where, raw, *tasks]).run(timeout=work.PATIENCE_S)
    assert [task.stdout.get() for task in tasks[:-1]] == [
        "a\nb\n",
        " ff 00 0a\n",
        "1\n2\n3\n4\n",
        "a\nb\n",
        f"{tmp_path}\n",
        "4\n",
    ]
    assert tasks[-1].result.get() == "A\nB\n"


def test_input_cut_short_is_an_error_and_a_file_is_the_way(batch: Batch, tmp_path: Path) -> None:
    line = "head -c 3000000 /dev/zero"
    much, filed = shell(batch, line), shell(batch, line, stdout=tmp_path / "much")
    bad = batch.process(["wc", "-c"], stdin=much.stdout)
    good = batch.process(["wc", "-c"], stdin=filed.stdout)
    batch.compile([much, filed, bad, good]).start()
    assert good.stdout.get(timeout=work.PATIENCE_S) == "3000000\n"
    with pytest.raises(UsageError, match="stdout=path"):
        bad.result.get(timeout=work.PATIENCE_S)


def test_files_order_tasks_and_are_read_back(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = shell(batch, "sleep 0.2; printf 'b\\na\\n'; echo oh >&2", stdout="new/a.txt")
    second = batch.process(["sort"], stdin="new/a.txt", stdout=Path("b.txt"), stderr="b.err")
    third = batch.function(Path.read_text, tmp_path / "b.txt", reads=batch.read("b.txt"))
    monkeypatch.chdir("/")
    batch.compile([first, second, third]).run(timeout=work.PATIENCE_S)
    assert third.result.get() == "a\nb\n"
    assert outputs(first) == ("b\na\n", "oh\n")
    assert outputs(second) == ("a\nb\n", "")
    assert (tmp_path / "b.txt").read_text() == "a\nb\n"
    again = batch.process(["echo", "x"], stdout=tmp_path / "new/a.txt")
    again.run(timeout=work.PATIENCE_S)
    assert again.stdout.get() == "x\n"
    (tmp_path / "new/a.txt").unlink()
    with pytest.raises(FileNotFoundError):
        again.stdout.get()


def test_devnull_and_one_stream_for_both(batch: Batch, tmp_path: Path) -> None:
    line, path = "echo out; echo err >&2", tmp_path / "both"
    cases: list[tuple[dict[str, Any], tuple[str, str]]] = [
        ({"stdout": subprocess.DEVNULL}, ("", "err\n")),
        ({"stderr": subprocess.DEVNULL}, ("out\n", "")),
        ({"stderr": subprocess.STDOUT}, ("out\nerr\n", "")),
        ({"stdout": path, "stderr": subprocess.STDOUT}, ("out\nerr\n", "")),
        ({"stdout": path, "stderr": path}, ("out\nerr\n", "out\nerr\n")),
    ]
    for options, expected in cases:
        task = shell(batch, line, **options)
        task.run(timeout=work.PATIENCE_S)
        assert outputs(task) == expected


# -- what it runs in -----------------------------------------------------------------------------


def test_paths_directory_and_environment(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    script = tmp_path / "sub" / "say"
    script.write_text('#!/bin/sh\necho "$0 $1 $V"; pwd; umask\n')
    script.chmod(0o755)
    tasks = [
        batch.process([script, Path("/x")]),
        batch.process(script),
        batch.process(["sub/say"], cwd=tmp_path),
        batch.process(["say"], cwd=tmp_path, env={"PATH": f"sub:{os.defpath}", "V": "v"}),
        batch.process(["other name"], executable=script, umask=0o27),
        batch.process([b"printf", b"a\xffb"], text=False),
    ]
    for task in tasks:
        task.run(timeout=work.PATIENCE_S)
    lines = [task.stdout.get().splitlines() for task in tasks]
    here, umask = os.getcwd(), subprocess.getoutput("umask")
    assert lines[0] == [f"{script} /x ", here, umask]
    assert lines[1] == [f"{script}  ", here, umask]
    assert lines[2] == [f"{script}  ", str(tmp_path), umask]
    assert lines[3] == [f"{script}  v", str(tmp_path), umask]
    assert lines[4] == [f"{script}  ", here, "0027"]
    assert tasks[5].stdout.get() == b"a\xffb"


def test_shells_sessions_and_signals(batch: Batch) -> None:
    show = f"import os; print(os.getsid(0) == os.getppid(), os.getpgid(0) != {os.getpid()})"
    line = f"{sys.executable} -c '{show}'"
    tasks = [
        shell(batch, line, start_new_session=True),
        shell(batch, line),
        shell(batch, "echo $0", executable="/bin/bash"),
        batch.process(["echo $1", "name", "one"], shell=True),
        shell(batch, "yes | head -1"),
        shell(batch, "kill -TERM 0"),
    ]
    for task in tasks[:-1]:
        task.run(timeout=work.PATIENCE_S)
    assert [task.stdout.get() for task in tasks[:-1]] == [
        "True True\n",
        "False True\n",
        "/bin/bash\n",
        "one\n",
        "y\n",
    ]
    assert failure(tasks[-1]).returncode == -signal.SIGTERM
    assert batch.process(["true"]).run(timeout=work.PATIENCE_S) == 0


def test_descriptors_stay_here(batch: Batch) -> None:
    reader, writer = os.pipe()
    try:
        os.set_inheritable(writer, True)
        task = batch.process(["ls", "/proc/self/fd"])
        task.run(timeout=work.PATIENCE_S)
        assert task.stdout.get().split() == ["0", "1", "2", "3"]  # the last is that of ls
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_another_user(batch: Batch, tmp_path: Path) -> None:
    task = shell(batch, "id -u; id -g; id -G; umask; pwd", user=65534, group=65534)
    other = shell(batch, "id -u; id -G; pwd", user="nobody", extra_groups=[4], cwd="/", umask=0)
    for one in (task, other):
        one.run(timeout=work.PATIENCE_S)
    assert task.stdout.get().split()[:3] == ["65534"] * 3
    assert other.stdout.get().split() == ["65534", "0", "4", "/"]


# -- what is refused ---------------------------------------------------------------------------


def test_programs_that_cannot_be_run(batch: Batch, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    with pytest.raises(FileNotFoundError, match=r"no-such-program") as caught:
        batch.process(["no-such-program"], env={"PATH": "/one:/two"})
    assert "/one:/two" in str(caught.value)
    with pytest.raises(FileNotFoundError, match="shell=True"):
        batch.process("ls -l")
    with pytest.raises(FileNotFoundError, match="reads="):
        batch.process([tmp_path / "gone"])
    with pytest.raises(PermissionError, match="chmod"):
        batch.process([plain])
    with pytest.raises(PermissionError, match="directory"):
        batch.process([tmp_path])
    with pytest.raises(PermissionError):
        batch.process(["plain"], env={"PATH": str(tmp_path)})


def test_a_program_that_an_earlier_task_makes(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "made"

    def make() -> None:
        path.write_text("#!/bin/sh\necho made\n")
        path.chmod(0o755)

    task = batch.process([path], reads=batch.read(tmp_path, "made"))
    batch.compile([batch.function(make, writes=batch.write(path)), task]).run(work.PATIENCE_S)
    assert task.stdout.get() == "made\n"
    path.unlink()
    gone = batch.process([path], reads=batch.read(tmp_path))
    with pytest.raises(FileNotFoundError, match="no such program"):
        gone.run(timeout=work.PATIENCE_S)


def test_a_script_without_its_first_line(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text("echo hello\n")
    path.chmod(0o755)
    with pytest.raises(OSError, match="first line") as caught:
        batch.process([path]).run(timeout=work.PATIENCE_S)
    assert caught.value.errno == 8
    path.write_text("#!/no/such/interpreter\n")
    with pytest.raises(FileNotFoundError, match="/no/such/interpreter"):
        batch.process([path]).run(timeout=work.PATIENCE_S)


def test_a_directory_that_is_not_there(batch: Batch, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cwd=") as caught:
        batch.process(["true"], cwd=tmp_path / "gone").run(timeout=work.PATIENCE_S)
    assert caught.value.filename == str(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        batch.process(["cat"], stdin=tmp_path / "gone").run(timeout=work.PATIENCE_S)


def test_too_many_arguments(batch: Batch) -> None:
    with pytest.raises(OSError, match="longer than the system takes"):
        batch.process(["true", *["x" * 100_000] * 100]).run(timeout=work.PATIENCE_S)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"preexec_fn": print}, "preexec_fn"),
        ({"pass_fds": (1,)}, "pass_fds"),
        ({"startupinfo": object()}, "Windows"),
        ({"creationflags": 1}, "Windows"),
        ({"pipesize": 4096}, "pipesize"),
        ({"process_group": 7}, "process_group"),
        ({"stdout": subprocess.PIPE}, "captured"),
        ({"stderr": subprocess.PIPE}, "captured"),
        ({"stdin": subprocess.PIPE}, "bytes"),
        ({"stdout": subprocess.STDOUT}, "stderr alone"),
        ({"stdin": sys.stdin}, "give its path"),
        ({"stdout": sys.stdout}, "give its path"),
        ({"stderr": 2}, "give its path"),
        ({"stdin": "text\nof lines"}, "bytes"),
        ({"stdin": "same", "stdout": "same"}, "emptied"),
        ({"text": False, "universal_newlines": True}, "differ"),
        ({"text": False, "encoding": "utf-8"}, "bytes"),
    ],
)
def test_what_a_worker_cannot_honour_is_refused(
    batch: Batch, options: dict[str, Any], what: str
) -> None:
    with pytest.raises(UsageError, match=what):
        batch.process(["true"], **options)


def test_wrong_arguments(batch: Batch) -> None:
    for args in (5, ["seq", 5], [None], None):
        with pytest.raises(TypeError):
            batch.process(args)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="empty"):
        batch.process([])
    with pytest.raises(ValueError, match="null byte"):
        batch.process(["echo", "a\0b"])
    with pytest.raises(ValueError, match="A=B"):
        batch.process(["true"], env={"A=B": ""})
    with pytest.raises(TypeError, match="env"):
        batch.process(["true"], env={"A": 5})
    with pytest.raises(LookupError):
        batch.process(["true"], encoding="no-such-encoding")
    with pytest.raises(LookupError):
        batch.process(["true"], errors="no-such-handler")
    with pytest.raises(ValueError, match="no-such-user"):
        batch.process(["true"], user="no-such-user")
    with pytest.raises(TypeError):
        batch.process(["true"], no_such_option=1)
    with pytest.raises(TypeError):
        batch.process(["true"], bufsize="x")  # type: ignore[arg-type]
    bad = batch.process(["echo", batch.function(list).result])
    with pytest.raises(UsageError):
        bad.start()
    source = batch.function(list)
    listed = batch.process(["echo", source.result])
    batch.compile([source, listed]).start()
    with pytest.raises(UsageError, match="a handle gave"):
        listed.result.get(timeout=work.PATIENCE_S)
