"""Samplers of a build hold memory, of a GPU for example: each is given back before the next is opened."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from prefkit.pipeline import build as pipeline
from prefkit.sampling.config import FakeSampler as Settings
from prefkit.sampling.fake import FakeSampler
from prefkit.sampling.protocol import Sample, SampleFailure, SampleRequest
from tests.pipeline.builders import built, workspace_in

BLOCKS = [{"backend": "fake", "n": 2, "seed": seed} for seed in (1, 2)]


def noting(events: list[str], monkeypatch: pytest.MonkeyPatch, dies: bool = False) -> None:
    """From now on builds note what becomes of their samplers."""

    class Noted(FakeSampler):
        def sample(self, requests: Sequence[SampleRequest]) -> Iterator[Sequence[Sample | SampleFailure]]:
            events.append("sampled")
            if dies:
                raise RuntimeError("out of memory")
            return super().sample(requests)

        def close(self) -> None:
            events.append("closed")

    def opened(config: Settings, *_: object) -> FakeSampler:
        events.append("opened")
        return Noted(config)

    monkeypatch.setattr(pipeline, "open_sampler", opened)


def test_sampler_is_closed_before_the_next_block_opens_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    noting(events, monkeypatch)
    built(workspace_in(tmp_path, 3), sample=BLOCKS)
    assert events == ["opened", "sampled", "closed"] * 2


def test_sampler_that_fails_is_closed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    noting(events, monkeypatch, dies=True)
    with pytest.raises(RuntimeError, match="out of memory"):
        built(workspace_in(tmp_path, 3), sample=BLOCKS)
    assert events == ["opened", "sampled", "closed"]
