from collections.abc import Iterator

import pytest

from prefkit.engines.gathering import gathered
from prefkit.errors import EndpointError


def counted(*sizes: int) -> Iterator[list[int]]:
    number = 0
    for size in sizes:
        yield list(range(number, number + size))
        number += size


def test_results_come_in_batches_of_at_least_the_size_and_the_rest_at_the_end():
    assert list(gathered(counted(1, 1, 3, 0, 4, 1), 4)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8], [9]]
    assert list(gathered(counted(0, 0), 4)) == []


def test_what_came_before_an_error_of_ours_is_handed_on_first():
    def broken() -> Iterator[list[int]]:
        yield from counted(1, 2)
        raise EndpointError("gone")

    batches = gathered(broken(), 100)
    assert next(batches) == [0, 1, 2]
    with pytest.raises(EndpointError, match="gone"):
        next(batches)
