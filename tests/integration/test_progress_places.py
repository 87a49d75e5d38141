"""Progress where users see it: in a terminal, a pipe, a notebook; and what it costs the rest."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import textwrap
from pathlib import Path
from typing import Any

import _work as work
from alamo import Batch
from alamo.batch import progress

SCRIPT = """
import sys, time, pathlib
from alamo import Batch

def slow(path):
    while not pathlib.Path(path).exists():
        time.sleep(0.01)

def fail(i):
    if i % 10 == 0:
        raise ValueError(i)

if __name__ == "__main__":
    with Batch(num_workers=2) as batch:
        if sys.argv[1] == "ends":
            tasks = [batch.function(fail, i) for i in range(200)]
            import warnings
            warnings.simplefilter("ignore")
            batch.compile(tasks, name="ends").run(progress=True)
            batch.close()
            batch.join(progress=True)
        else:
            batch.function(slow, sys.argv[2], name="slow").run(progress=True)
"""

ENDS = re.compile(r"task \d+ \(ends\): 100%\|.*\| 200/200 \[.*task/s, 180 done, 20 failed\]")


class Terminal:
    """A script whose stderr is a terminal of 100 columns."""

    def __init__(self, directory: Path, *args: str, **variables: str) -> None:
        path = directory / "script.py"
        path.write_text(SCRIPT)
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        environ = os.environ | {"TERM": "xterm", "LC_ALL": "C.UTF-8"} | variables
        self.process = subprocess.Popen(
            [sys.executable, str(path), *args], stderr=theirs, stdin=theirs, env=environ
        )
        os.close(theirs)
        self.seen = ""

    def read_until(self, text: str | None) -> str:
        """All that has been shown until that appears, or the end."""
        while text is None or text not in self.seen:
            try:
                data = os.read(self._ours, 1 << 16)
            except OSError:  # EIO: the other end was closed
                break
            self.seen += data.decode(errors="replace")
        return self.seen

    def close(self) -> None:
        os.close(self._ours)

    def end(self) -> int:
        self.close()
        return self.process.wait(work.PATIENCE_S)


def test_a_terminal(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "ends")
    seen = terminal.read_until(None)
    assert terminal.end() == 0
    bar, join, *rest = seen.split("\r\n")
    assert ENDS.fullmatch(bar.split("\r")[-1].strip()), bar
    assert "\n" not in bar  # one line, drawn over and over
    assert all(len(drawn) <= 100 for drawn in bar.split("\r"))
    assert join.split("\r")[-1].startswith("join: ")
    assert rest == [""]  # the cursor is below
    assert "\x1b[?25l" not in seen  # and was never hidden


def test_an_interrupt_leaves_the_bar_and_the_cursor_below(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "waits", str(tmp_path / "never"))
    terminal.read_until("1 waiting")
    terminal.process.send_signal(signal.SIGINT)
    seen = terminal.read_until(None)
    assert terminal.end() != 0
    bar, after = seen.split("\r\n", 1)
    assert "0/1" in bar.split("\r")[-1]
    assert after.startswith("Traceback")
    assert after.rstrip().endswith("KeyboardInterrupt")


def test_the_user_may_switch_bars_off(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "ends", TQDM_DISABLE="1")
    assert terminal.read_until(None) == ""
    assert terminal.end() == 0


def test_a_terminal_that_is_closed_does_not_end_the_wait(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    terminal = Terminal(tmp_path, "waits", str(gate))
    terminal.read_until("1 waiting")
    terminal.close()
    gate.touch()
    assert terminal.process.wait(work.PATIENCE_S) == 0


def test_a_pipe_stays_silent_when_it_is_short(tmp_path: Path) -> None:
    done = work.run_script(tmp_path, SCRIPT, "ends")
    assert (done.stdout, done.stderr) == ("", "")


def test_a_pipe_gets_lines_when_it_is_long(tmp_path: Path) -> None:
    code = "from alamo.batch import progress\nprogress.FIRST_LINE_S = 0.0\n" + SCRIPT
    done = work.run_script(tmp_path, code, "ends")
    assert "\r" not in done.stderr
    ended = [line for line in done.stderr.splitlines() if " (ends): 100% 200/200 [" in line]
    assert ended
    assert ended[-1].endswith("180 done, 20 failed]")
    assert done.stderr.splitlines()[-1].startswith("join: ")


def run_in_sight(batch: Batch) -> Any:
    """A task's own wait, which counts as a long one."""
    progress.FIRST_LINE_S = 0.0
    return batch.function(pow, 2, 5).run(progress=True)


def test_a_task_that_waits_shows_it_on_its_own_stderr() -> None:
    with Batch(num_workers=1) as batch:
        task = batch.function(run_in_sight, batch)
        assert task.run(work.PATIENCE_S) == 32
        assert "100% 1/1" in task.stderr.get()
        assert task.stdout.get() == ""


def test_who_does_not_ask_does_not_pay(tmp_path: Path) -> None:
    code = """
    import sys
    from alamo import Batch
    if __name__ == "__main__":
        with Batch(num_workers=1) as batch:
            batch.function(pow, 2, 3).run()
        print([name for name in sys.modules if "tqdm" in name or name == "alamo.batch.progress"])
    """
    assert work.run_script(tmp_path, textwrap.dedent(code)).stdout == "[]\n"


NOTEBOOK = r"""
import nbclient, nbformat, sys

cells = [
    "from alamo import Batch\nbatch = Batch(num_workers=2)\nbatch",
    "task = batch.map(abs, range(-50, 50), name='<many>')\ntask.run(progress=True)[0]",
    "task",
    "def bad():\n    raise ValueError('<b>no')\n"
    "one = batch.function(bad)\none.start()\none.wait()\none",
    "handles = batch.compile([batch.function(abs, -1)]).run()\nhandles",
    "handles[next(iter(handles))][0]",
    "batch.close()\nbatch.join()\nbatch",
]
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
nbclient.NotebookClient(book, timeout=60, kernel_name="python3").execute()
nbformat.write(book, sys.argv[1])
"""


def test_a_notebook(tmp_path: Path) -> None:
    import nbformat

    (tmp_path / "run.py").write_text(NOTEBOOK)
    places = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
    environ = os.environ | {place: str(tmp_path / place) for place in places}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "book.ipynb")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    book = nbformat.read(tmp_path / "book.ipynb", as_version=4)
    results = [
        output.data
        for cell in book.cells
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    html = [data.get("text/html", "") for data in results]
    drawn = "".join(
        output.text for output in book.cells[1].outputs if output.output_type == "stream"
    )
    assert "100/100" in drawn.split("\r")[-1]  # without ipywidgets; with them it is a widget
    assert "100%" in drawn
    assert "<b>Batch of 2 workers" in html[0]
    assert results[1]["text/plain"] == "50"
    assert "(&lt;many&gt;)</b>: ended" in html[2]
    assert "100 done" in html[2]
    assert "ValueError: &lt;b&gt;no" in html[3]
    assert "handles of the 1 subtasks" in html[4]
    assert "<b>result of task" in html[5]
    assert "closed" in html[6]
