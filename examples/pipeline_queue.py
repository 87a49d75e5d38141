"""A pipeline: a producer and several consumers with a Queue between them, results in a DDict.

Producer and consumers are tasks of a Batch. On the way one consumer is killed, as a node that
fails or a memory limit would do it. The messages that it had not got go to the others; the one
that it was just working on is lost with it, is seen to be missing, and is done again.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter

from alamo import Batch, DDict, Queue, WorkerLost


def produce(jobs: Queue[int | None], count: int) -> int:
    """Put the numbers from 0, and behind them the sign that there are no more."""
    for number in range(count):
        jobs.put(number)
    jobs.put(None)
    return count


def consume(jobs: Queue[int | None], results: DDict[int, tuple[int, int]]) -> int:
    """Work on what comes until there is no more; returns how much it was."""
    done = 0
    while (number := jobs.get()) is not None:
        results[number] = divisors(number), os.getpid()
        done += 1
    jobs.put(None)  # for the other consumers
    return done


def divisors(number: int) -> int:
    """How many numbers divide it: something that takes a while."""
    return sum(not number % divisor for divisor in range(1, number + 1))


def kill_one(results: DDict[int, tuple[int, int]], after: int) -> int:
    """Kill a consumer when so many results are there; returns its process id."""
    while len(results) < after:
        time.sleep(0.005)
    pid = results[after // 2][1]
    os.kill(pid, signal.SIGKILL)
    return pid


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A producer, consumers, and one that is killed.")
    parser.add_argument("--count", type=int, default=3000, metavar="N", help="how many messages")
    parser.add_argument("--consumers", type=int, default=3, metavar="N")
    options = parser.parse_args(arguments)

    jobs: Queue[int | None] = Queue()
    results: DDict[int, tuple[int, int]] = DDict()
    with Batch(num_workers=options.consumers + 1) as batch:
        # A task that waits for messages holds nothing up: its slot is lent to others meanwhile.
        producer = batch.function(produce, jobs, options.count)
        consumers = [batch.function(consume, jobs, results) for _ in range(options.consumers)]
        for task in (producer, *consumers):
            task.start()

        killed = kill_one(results, after=options.count // 4)
        print(f"killed the consumer in process {killed}")
        print(f"the producer has put {producer.result.get()} messages")

        for consumer in consumers:
            try:
                print(f"a consumer has worked on {consumer.result.get()} messages")
            except WorkerLost as error:
                print(f"a consumer was lost: {str(error).splitlines()[0]}")

    missing = [number for number in range(options.count) if number not in results]
    print(f"results of {len(results)} messages are there, {len(missing)} missing: {missing}")
    for number in missing:
        results[number] = divisors(number), os.getpid()

    by_process = Counter(pid for _, pid in results.values())
    for pid, count in by_process.most_common():
        who = "this process, again" if pid == os.getpid() else "a consumer"
        print(f"  {count} by {who}{', the one that was killed' if pid == killed else ''}")
    wrong = [n for n in range(options.count) if results[n][0] != divisors(n)]
    is_right = not wrong and len(results) == options.count and len(missing) <= 1
    print("all accounted for" if is_right else f"WRONG: {wrong}, {missing}")
    results.close()
    jobs.close()
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
