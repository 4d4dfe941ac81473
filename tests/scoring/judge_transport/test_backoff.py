import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.scoring.judge.backoff import Backoff, retry_after_s

BACKOFF = Backoff(first_s=0.5, longest_s=4.0, longest_retry_after_s=60.0)


def test_delay_doubles_its_ceiling_up_to_the_longest():
    assert [BACKOFF.delay_s(attempt, None, draw=0.5) for attempt in range(5)] == [0.25, 0.5, 1.0, 2.0, 2.0]


@given(st.integers(0, 2_000), st.floats(0, 1e9), st.floats(0, 1, exclude_max=True))
def test_delay_obeys_the_server_up_to_the_cap(attempt: int, asked_s: float, draw: float):
    delay = BACKOFF.delay_s(attempt, asked_s, draw)
    assert min(asked_s, 60.0) <= delay <= 60.5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "20"}, 0.02),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 12.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_every_form_is_seconds(headers: dict[str, str], seconds: float | None):
    eight_49_25 = 784111765.0  # 1994-11-06 08:49:25 UTC
    assert retry_after_s(headers, now=eight_49_25) == seconds
