"""Calls made one by one over HTTP, many at once.

    caller's thread                         thread of one `send`
    ---------------                         --------------------
    send(calls) ............ starts ......  `concurrency` workers take calls from one queue
    yields what is finished  <-- queue ---  worker: reserve, ask, settle, wait and ask again, or finish

The event loop has a thread of its own, so `send` works from any thread and under a running loop. Workers stop taking
calls when as many finished ones as there are workers lie untaken: what a killed process loses is bounded by what is in
flight, however slow the caller stores. All retrying happens here; the client's own is off.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from prefkit.scoring.judge.answers import Trouble
from prefkit.scoring.judge.calls import Call, CallFailure, Reply
from prefkit.scoring.judge.endpoint import Endpoint, require_client, require_url
from prefkit.scoring.judge.workers import FEWEST_DOUBTS, Acquaintance, Finished, Workers
from prefkit.spending import Budget

OpenWorkers = Callable[[Callable[[Finished], None], asyncio.Semaphore], Workers]


class LiveTransport:
    """The transport of interactive endpoints. Any number of `send`s may run at once, in any threads.

    Raises MissingExtraError without the openai package, and RecipeError for an endpoint that is no URL, a key that is
    not set, or a budget in money without a price.
    """

    def __init__(self, endpoint: Endpoint, budget: Budget | None = None, concurrency: int = 32) -> None:
        require_client()
        require_url(endpoint.url)
        self._endpoint = endpoint
        self._budget = budget or Budget()
        self._budget.require_price(endpoint.price, endpoint.who)
        self._key = endpoint.key()
        self._concurrency = concurrency
        self._known = Acquaintance()
        self._untaken: dict[str, Finished] = {}
        self._lock = threading.Lock()

    def send(self, calls: Sequence[Call]) -> Iterator[Sequence[tuple[Call, Reply | CallFailure]]]:
        """Yields finished calls as they finish. Replies that an earlier `send` got and nobody took come first.

        Raises EndpointError, after everything that finished, when every further call would fail: the endpoint cannot be
        reached or refuses the key, the model or every request.
        """
        taken = self._take(calls)
        if taken:
            yield taken
        known = {call.id for call, _ in taken}
        left = [call for call in calls if call.id not in known]
        if left:
            yield from self._sent(left)

    def _sent(self, calls: Sequence[Call]) -> Generator[Sequence[Finished]]:
        run = _Run(self._workers, calls, self._concurrency)
        remaining = len(calls)
        try:
            while remaining and (batch := run.finished()):
                remaining -= len(batch)
                yield batch
                run.acknowledge(len(batch))
            run.join()
        except KeyboardInterrupt:
            run.stop()
            if rest := run.rest():
                yield rest
            raise
        finally:
            run.stop()
            self._keep(run.rest())
        if run.mistake is not None:
            raise self._endpoint.mistake(run.mistake)

    def _workers(self, finish: Callable[[Finished], None], room: asyncio.Semaphore) -> Workers:
        return Workers(self._endpoint, self._key, self._budget, self._known, finish, room, self._concurrency)

    def _take(self, calls: Sequence[Call]) -> list[Finished]:
        with self._lock:
            return [self._untaken.pop(call.id) for call in calls if call.id in self._untaken]

    def _keep(self, finished: Sequence[Finished]) -> None:
        with self._lock:
            self._untaken.update((call.id, (call, answer)) for call, answer in finished if isinstance(answer, Reply))


class _Run:
    """The thread of one `send`. An empty list from `finished` means that nothing more will come."""

    def __init__(self, workers: OpenWorkers, calls: Sequence[Call], concurrency: int) -> None:
        self.mistake: Trouble | None = None
        self._open = workers
        self._calls = calls
        # Doubtful answers are held back until the endpoint has proved itself: they need room as well.
        self._room = asyncio.Semaphore(2 * concurrency + FEWEST_DOUBTS)
        self._queue: SimpleQueue[Finished | BaseException | None] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None] | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="judge-calls", daemon=True)
        self._thread.start()
        self._started.wait()

    def finished(self) -> list[Finished]:
        """What is finished, at least one as long as something is under way. Raises what the thread raised."""
        return self._told([self._queue.get(), *self._ready()])

    def rest(self) -> list[Finished]:
        """What finished and was not taken; for after `stop`."""
        return [item for item in self._ready() if isinstance(item, tuple)]

    def acknowledge(self, taken: int) -> None:
        """Makes room for that many further calls."""
        with suppress(RuntimeError):  # the loop has ended: nobody needs room
            self._loop.call_soon_threadsafe(self._make_room, taken)

    def join(self) -> None:
        """Returns when the connections are closed, after everything has finished."""
        self._thread.join()

    def stop(self) -> None:
        """Breaks off what is under way and returns when nothing is."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join()

    def _told(self, items: Sequence[Finished | BaseException | None]) -> list[Finished]:
        told: list[Finished] = []
        for item in items:
            if isinstance(item, tuple):
                told.append(item)
            elif told:
                self._queue.put(item)  # the end comes after everything that finished
            elif item is not None:
                raise item
        return told

    def _ready(self) -> list[Finished | BaseException | None]:
        ready: list[Finished | BaseException | None] = []
        with suppress(Empty):
            while True:
                ready.append(self._queue.get_nowait())
        return ready

    def _make_room(self, taken: int) -> None:
        for _ in range(taken):
            self._room.release()

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._work())
        except asyncio.CancelledError:
            pass  # `stop` was called
        except BaseException as error:  # noqa: BLE001  # raised again in the thread of the caller
            end = error
        finally:
            self._started.set()
            self._queue.put(end)

    async def _work(self) -> None:
        self._main = asyncio.current_task()
        self._started.set()
        workers = self._open(self._queue.put, self._room)
        try:
            await workers.run(self._calls)
        finally:
            self.mistake = workers.mistake
