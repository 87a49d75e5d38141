"""CPU seconds of drawing a program: layout, painting and file, by shape, size and format.

Run: python benchmarks/drawing.py [tasks ...]        (default: 50 1000 10000 100000)

No service is needed: the diagrams are made here, as a compiled task would make them.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable

from alamo.drawing.diagram import Diagram, Node
from alamo.drawing.files import write

ENDINGS = (".png", ".svg", ".pdf", ".dot", ".json")

Edges = list[tuple[int, int, int]]


def chain(n: int) -> Edges:
    return [(i, i + 1, 0) for i in range(n - 1)]


def fan(n: int) -> Edges:
    return [e for i in range(1, n - 1) for e in ((0, i, 0), (i, n - 1, 1))]


def stencil(n: int) -> Edges:
    """Each cell needs three of the step before."""
    side = max(2, round(n**0.5))
    return [
        (i - side + d, i, 0) for i in range(side, n) for d in (-1, 0, 1) if 0 <= i % side + d < side
    ]


def layered(n: int) -> Edges:
    """Each task needs two random ones of the layer before."""
    rng, side = random.Random(1), max(2, round(n**0.5))
    edges = [
        ((i // side - 1) * side + rng.randrange(side), i, rng.choice((0, 0, 1, 2, 3)))
        for i in range(side, n)
        for _ in range(2)
    ]
    return list(dict.fromkeys(edges))


def cpu_s() -> float:
    """Of this process and its children, which lay out with Graphviz."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Print a line a shape and size."""
    sizes = [int(argument) for argument in sys.argv[1:]] or [50, 1000, 10_000, 100_000]
    shapes: list[Callable[[int], Edges]] = [chain, fan, stencil, layered]
    print(f"{'CPU seconds, MB':24}" + "".join([f"{ending:>16}" for ending in ENDINGS]))
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "dag")
        for n in sizes:
            for shape in shapes:
                nodes = [Node(i, "task", i + 1, f"task_{i}", "done") for i in range(n)]
                diagram = Diagram(shape.__name__, nodes, shape(n))
                line = f"{shape.__name__:10} {n:9,}    "
                for ending in ENDINGS:
                    start_s = cpu_s()
                    write(diagram, path + ending)
                    used_s = cpu_s() - start_s
                    line += f"{used_s:8.2f} {os.path.getsize(path + ending) / 1e6:7.2f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
