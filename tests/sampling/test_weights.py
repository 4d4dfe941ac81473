"""The probe beside saved weights."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import DamageError
from prefkit.sampling.weights import PROBE_FILE, Logprobed, read_probe, write_probe

IDS = st.lists(st.integers(0, 2**31 - 1), max_size=5)


@given(IDS, IDS, st.lists(st.floats(-1e3, 0), max_size=5))
def test_probe_is_read_as_it_was_written_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, prompt_ids: list[int], completion_ids: list[int], logprobs: list[float]
):
    folder = tmp_path_factory.mktemp("weights")
    probe = Logprobed(prompt_ids, completion_ids, logprobs)
    write_probe(probe, folder)
    assert read_probe(folder) == probe


@pytest.mark.parametrize("content", [None, "{", "[]", '{"prompt_ids": []}'], ids=["missing", "torn", "list", "partial"])
def test_probe_that_is_missing_or_damaged_is_one_line(content: str | None, tmp_path: Path):
    if content is not None:
        (tmp_path / PROBE_FILE).write_text(content)
    with pytest.raises(DamageError, match=r"probe\.json cannot be read as the probe of saved weights"):
        read_probe(tmp_path)
