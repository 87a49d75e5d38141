"""Runs every benchmark, one after the other; options are passed on.

`--save FILE` also writes what is printed to a file, as Markdown: for benchmarks/results.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = {
    "plain.py": [],
    "executor.py": [],
    "dag.py": ["--million"],
    "memory.py": [],
    "sleeps.py": [],
    "processes.py": [],
    "arrays.py": [],
    "arrays_map.py": [],
    "latency.py": [],
    "jobs.py": [],
    "options.py": [],
    "ddicts.py": [],
    "ddict_waits.py": [],
    "queues.py": [],
    "valkeys.py": [],
}


def run(script: str, options: list[str], lines: list[str]) -> int:
    command = [sys.executable, str(HERE / script), *options]
    title = f"## {script}\n\n"
    lines.append(title)
    print(title, end="", flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            print(line, end="", flush=True)
    return process.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--save", type=Path, help="write what is printed to this file too")
    parser.add_argument("--only", nargs="*", metavar="SCRIPT", help="these scripts, not all")
    known, passed_on = parser.parse_known_args()
    quick = "--quick" in passed_on
    lines: list[str] = []
    failed = []
    start = time.monotonic()
    for script, options in SCRIPTS.items():
        if known.only and script not in known.only and script.removesuffix(".py") not in known.only:
            continue
        if run(script, [*([] if quick else options), *passed_on], lines):
            failed.append(script)
    met = sum("| met " in line for line in lines)
    missed = sum("| MISSED |" in line for line in lines)
    summary = f"{met} goals met, {missed} missed, in {(time.monotonic() - start) / 60:.1f} min"
    if failed:
        summary += f"; ended with an error: {', '.join(failed)}"
    print(summary)
    if known.save:
        known.save.write_text("".join([*lines, summary, "\n"]), encoding="utf-8")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
