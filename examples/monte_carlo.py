"""Price a European call option by simulation: a million elements of one array, reduced by a task.

Each element draws one end price of the stock from its own seed, and the mirrored one, and returns
the discounted mean of the two payoffs. A task that takes all of them as its argument makes the
estimate; the Black-Scholes formula says what should come out.

    draws (1 000 000 elements) ──► estimate ──► report

Run it with a number of elements, for example `monte_carlo.py 10000`.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time

from alamo import Batch

SPOT, STRIKE, RATE, VOLATILITY, YEARS = 100.0, 105.0, 0.03, 0.2, 1.0

#: Elements whose values are computed here as well, and compared.
CHECKED = 1000


def payoff(seed: int) -> float:
    """Discounted payoff of one simulated end price and its mirror image."""
    z = random.Random(seed).gauss(0.0, 1.0)
    drift = (RATE - VOLATILITY**2 / 2) * YEARS
    spread = VOLATILITY * math.sqrt(YEARS) * z
    up = max(SPOT * math.exp(drift + spread) - STRIKE, 0.0)
    down = max(SPOT * math.exp(drift - spread) - STRIKE, 0.0)
    return math.exp(-RATE * YEARS) * (up + down) / 2


def estimate(payoffs: list[float]) -> tuple[float, float]:
    """Mean and standard error; the sum does not depend on any order."""
    n = len(payoffs)
    mean = math.fsum(payoffs) / n
    variance = math.fsum([(p - mean) ** 2 for p in payoffs]) / (n - 1)
    return mean, math.sqrt(variance / n)


def report(found: tuple[float, float], exact: float) -> str:
    """The estimate beside the formula."""
    price, error = found
    return f"price {price:.4f} ± {error:.4f}, Black-Scholes {exact:.4f}"


def black_scholes() -> float:
    """The exact price."""
    normal = statistics.NormalDist()
    total = VOLATILITY * math.sqrt(YEARS)
    d1 = (math.log(SPOT / STRIKE) + (RATE + VOLATILITY**2 / 2) * YEARS) / total
    return SPOT * normal.cdf(d1) - STRIKE * math.exp(-RATE * YEARS) * normal.cdf(d1 - total)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("elements", type=int, nargs="?", default=1_000_000)
    count = parser.parse_args().elements
    exact = black_scholes()
    with Batch() as batch:
        start = time.perf_counter()
        draws = batch.map(payoff, range(count), name="draws")
        estimated = batch.function(estimate, draws.result, name="estimate")
        told = batch.function(report, estimated.result, exact, name="report")
        batch.compile([draws, estimated, told], name="price").run(progress=True)
        took_s = time.perf_counter() - start
        price, error = estimated.result.get()
        some = draws.result[: min(CHECKED, count)]
    print(f"{count} elements in {took_s:.2f} s, {count / took_s:,.0f} a second")
    print(told.result.get())
    if some != [payoff(seed) for seed in range(len(some))]:
        print("WRONG: an element gave another value than here")
        return 1
    if abs(price - exact) > 5 * error:
        print("WRONG: further from the formula than chance explains")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
