"""The README's examples do what their comments say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS)
def test_an_example_prints_what_it_says(code: str, tmp_path: Path) -> None:
    """The code block runs as a script; the comments of its prints are what it prints."""
    script = tmp_path / "example.py"
    script.write_text(code)
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    said = re.findall(r"print\(.*\)  # (.*)", code)
    assert said
    assert (run.stdout.splitlines(), run.stderr, run.returncode) == (said, "", 0)
