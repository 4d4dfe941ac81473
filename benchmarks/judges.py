"""Judges behind an endpoint: calls per second, faults, and whether a budget holds.

    python benchmarks/judges.py --json benchmarks/results/judges.json

The endpoint is `prefkit.testing.FakeEndpoint` in a process of its own; it counts what it really bills, also for replies
that never reach the client.

* `speed`: an endpoint that answers after 50 or 200 ms, 1 to 64 calls at once; the most there can be is calls at once
  over latency. One call at a time shows what a call takes in all; each figure is the median of the runs.
* `faults`: 1,000 calls of which a fifth of the attempts fail in ten different ways.
* `budget`: for each seed, calls of random lengths until the budget is used, 64 at once; billed and charged as shares
  of the budget, with an endpoint without faults and with one that has them.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import statistics
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from operator import itemgetter
from pathlib import Path

from prefkit.scoring.judge.backoff import Backoff
from prefkit.scoring.judge.calls import Call, CallFailure, Reply
from prefkit.scoring.judge.endpoint import Endpoint
from prefkit.scoring.judge.live import LiveTransport
from prefkit.spending import TRILLION, Budget, Price
from prefkit.testing import Asked, FakeEndpoint, Fault, Script

CONCURRENCY = 64
SPEEDS = ((1, 0.05), (8, 0.05), (16, 0.05), (32, 0.05), (64, 0.05), (64, 0.2))
"""Calls at once, and seconds of latency."""
PRICE = Price(input=2.5, output=10.0)
USD = 0.10
FAULTS: tuple[Fault, ...] = (
    Fault.REFUSAL,
    Fault.MALFORMED,
    Fault.CUT_OFF,
    Fault.NO_USAGE,
    Fault.INVALID_JSON,
    Fault.HTML,
    Fault.RATE_LIMIT,
    Fault.SERVER_ERROR,
    Fault.HANG,
    Fault.DISCONNECT,
)
MIXED: dict[Fault, float] = dict.fromkeys(FAULTS, 0.02)
QUICK = Backoff(first_s=0.02, longest_s=0.5)


@dataclass(frozen=True)
class Seen:
    """What the endpoint saw and billed."""

    requests: int
    most_in_flight: int
    billed_tokens: int
    billed_usd: float
    faults: dict[str, int]


def wordy(asked: Asked) -> str:
    """A reply of a random length up to the limit, at four bytes a token."""
    return "word" * round(asked.uniform("length") * (asked.max_tokens or 0))


def serve(script: Script, pipe: Connection) -> None:
    """The process of the endpoint: sends its URL, waits, sends what it saw."""
    with FakeEndpoint(script) as endpoint:
        pipe.send(endpoint.url)
        pipe.recv()
        bill = endpoint.billed
        struck = Counter(entry.fault.value for entry in endpoint.requests if entry.fault is not None)
        tokens = bill.input_tokens + bill.output_tokens
        pipe.send(Seen(len(endpoint.requests), endpoint.most_in_flight, tokens, bill.usd, dict(struck)))


class Served:
    """An endpoint in another process."""

    def __init__(self, url: str, pipe: Connection) -> None:
        self.url = url
        self._pipe = pipe

    def seen(self) -> Seen:
        """What it saw; it ends after this."""
        self._pipe.send(None)
        return self._pipe.recv()


@contextmanager
def served(script: Script) -> Generator[Served]:
    """A running endpoint in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(script, theirs))
    process.start()
    try:
        yield Served(ours.recv(), ours)
    finally:
        process.join(timeout=10)
        process.kill()


def calls(count: int, seed: int = 0) -> list[Call]:
    """Questions of 50 to 650 bytes."""
    draw = random.Random(seed)
    return [
        Call(f"{seed}-{n}", [{"role": "user", "content": f"{seed} {n} " + "words " * draw.randint(5, 105)}], 100)
        for n in range(count)
    ]


def answered(transport: LiveTransport, asked: Sequence[Call]) -> dict[str, Reply | CallFailure]:
    """Every call's end. Raises when one ended twice or not at all."""
    pairs = [(call.id, answer) for batch in transport.send(asked) for call, answer in batch]
    assert sorted(name for name, _ in pairs) == sorted(call.id for call in asked)
    return dict(pairs)


def endings(answers: dict[str, Reply | CallFailure]) -> dict[str, int]:
    """How often each way of ending occurred."""
    return dict(Counter("reply" if isinstance(a, Reply) else a.kind.value for a in answers.values()))


def transport(
    url: str, budget: Budget | None = None, timeout_s: float = 30.0, concurrency: int = CONCURRENCY
) -> LiveTransport:
    """The transport that is measured."""
    endpoint = Endpoint(url, "judge", price=PRICE, timeout_s=timeout_s, backoff=QUICK)
    return LiveTransport(endpoint, budget, concurrency)


def speeds(seconds: float, runs: int) -> list[dict[str, float]]:
    """For each of `SPEEDS` the run with the median of calls per second; the runs take turns."""
    told = [[speed(at_once, latency_s, seconds, run) for at_once, latency_s in SPEEDS] for run in range(runs)]
    return [sorted(column, key=itemgetter("calls_per_s"))[runs // 2] for column in zip(*told, strict=True)]


def speed(concurrency: int, latency_s: float, seconds: float, seed: int) -> dict[str, float]:
    """Calls per second against an endpoint of a fixed latency, and the processor time of a call on our side."""
    most = concurrency / latency_s
    count = round(most * seconds)
    with served(Script(judge=wordy, latency_s=latency_s)) as endpoint:
        measured = transport(endpoint.url, concurrency=concurrency)
        answered(measured, calls(2 * concurrency, seed=1_000))
        asked, load = calls(count, seed), os.getloadavg()[0]
        began, cpu = time.perf_counter(), time.process_time()
        answered(measured, asked)
        took, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        endpoint.seen()
    return {
        "concurrency": concurrency,
        "latency_s": latency_s,
        "calls": count,
        "calls_per_s": count / took,
        "share_of_most": count / took / most,
        "cpu_ms_per_call": cpu_s / count * 1_000,
        "cores_used": cpu_s / took,
        "load_before": load,
    }


def faults(count: int) -> dict[str, object]:
    """Calls of which a fifth of the attempts fail."""
    with served(Script(judge=wordy, latency_s=0.02, faults=MIXED)) as endpoint:
        budget, began = Budget(), time.perf_counter()
        answers = answered(transport(endpoint.url, budget, timeout_s=1.0), calls(count, seed=3))
        seconds, seen = time.perf_counter() - began, endpoint.seen()
    spent = budget.spent
    return asdict(seen) | {
        "calls": count,
        "seconds": seconds,
        "endings": endings(answers),
        "charged_tokens": spent.tokens,
    }


def budgets(seeds: int, rates: dict[Fault, float], timeout_s: float) -> dict[str, object]:
    """Shares of the budget that were billed and charged, over seeds, with more work than it covers."""
    billed: list[float] = []
    charged: list[float] = []
    turned_away: list[int] = []
    for seed in range(seeds):
        with FakeEndpoint(Script(judge=wordy, latency_s=0.01, faults=rates, seed=seed)) as endpoint:
            budget = Budget(usd=USD)
            answers = answered(transport(endpoint.url, budget, timeout_s), calls(400, seed))
            billed.append(endpoint.billed.usd / USD)
            charged.append(budget.spent.money / TRILLION / USD)
            turned_away.append(endings(answers).get("over_budget", 0))
    return {
        "seeds": seeds,
        "budget_usd": USD,
        "over_budget": sum(share > 1 + 1e-12 for share in billed),
        "billed_least": min(billed),
        "billed_median": statistics.median(billed),
        "billed_most": max(billed),
        "charged_least": min(charged),
        "charged_most": max(charged),
        "fewest_turned_away": min(turned_away),
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a speed measurement takes at best")
    parser.add_argument("--runs", type=int, default=5, help="runs of each speed measurement")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "speed": speeds(options.seconds, options.runs),
        "faults": faults(1_000),
        "budget": budgets(options.seeds, {}, timeout_s=10.0),
        "budget_under_faults": budgets(options.seeds, MIXED, timeout_s=1.0),
    }
    print(json.dumps(results, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
