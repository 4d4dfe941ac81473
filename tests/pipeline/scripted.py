"""Policies whose every completion and log-prob is written down: folders with a script, and the engines that read it.

A completion is a text, its tokens, and the log-prob that its policy gives each of them. The start gives the token t a
log-prob of -t / 10.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from prefkit.sampling.config import PolicyConfig, SampleConfig
from prefkit.sampling.protocol import FinishReason, Sample, SampleFailure, SampleFailureKind, SampleRequest
from prefkit.sampling.registry import BACKENDS
from prefkit.shift.protocol import Logprobs, Text, Trained
from prefkit.shift.registry import ENGINES, Reference

Said = Mapping[str, Any]


def said(text: str, tokens: Sequence[int] = (1,), logprob: float = -0.1, finish: str = "stop") -> Said:
    """A completion."""
    return {"text": text, "tokens": list(tokens), "logprob": logprob, "finish": finish}


def failed(kind: str = "refused") -> Said:
    """A draw that gives none."""
    return {"failure": kind}


def scripted_policy(folder: Path, script: Mapping[str, Sequence[Said]]) -> Path:
    """A model folder; `script` says what is drawn for each prompt, in turn."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "chat_template.jinja"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_text(json.dumps(script))
    return folder


def use_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the backend `transformers` reads scripts."""
    monkeypatch.setitem(BACKENDS, "transformers", "tests.pipeline.scripted:ScriptedSampler")
    monkeypatch.setitem(ENGINES, "transformers", "tests.pipeline.scripted:ScriptedReference")


def forbid_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no model can be opened."""
    monkeypatch.setitem(BACKENDS, "transformers", "tests.pipeline.scripted:Forbidden")
    monkeypatch.setitem(ENGINES, "transformers", "tests.pipeline.scripted:Forbidden")


class Forbidden:
    @classmethod
    def open(cls, *_: object) -> None:
        raise AssertionError("a model was opened")


class ScriptedSampler:
    def __init__(self, folder: Path, policy_id: str) -> None:
        self._script: Mapping[str, Sequence[Said]] = json.loads((folder / "model.safetensors").read_text())
        self.policy_id = policy_id
        self.policy_version = 0
        self.deterministic = True

    @classmethod
    def open(cls, config: SampleConfig, policy: PolicyConfig | None, policy_id: str) -> "ScriptedSampler":
        model = config.policy or policy
        assert model is not None
        return cls(Path(model.model), policy_id)

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[Sequence[Sample | SampleFailure]]:
        turns = Counter[str]()
        for request in requests:
            prompt = request.prompt[-1]["content"]
            yield [_outcome(request.completion_id, self._script[prompt][turns[prompt]])]
            turns[prompt] += 1

    def close(self) -> None:
        pass


def _outcome(completion_id: bytes, line: Said) -> Sample | SampleFailure:
    if "failure" in line:
        return SampleFailure(completion_id, SampleFailureKind(str(line["failure"])), "scripted")
    tokens, logprob = line["tokens"], line["logprob"]
    assert isinstance(tokens, list)
    logprobs = [logprob] * len(tokens)
    return Sample(completion_id, str(line["text"]), FinishReason(str(line["finish"])), tokens, logprobs, logprobs)


class ScriptedReference:
    def __init__(self, model_id: str) -> None:
        self.model_id = model_id

    @classmethod
    def open(cls, reference: Reference, model_id: str) -> "ScriptedReference":
        return cls(model_id)

    def trained(self, texts: Sequence[Text], max_length: int | None) -> list[Trained]:
        return [Trained(text.id, [0], list(text.token_ids or ()), cut=0) for text in texts]

    def logprobs(self, rows: Sequence[Trained]) -> Iterator[Sequence[Logprobs]]:
        yield [Logprobs(row.id, [-t / 10 for t in row.completion_ids]) for row in rows]

    def close(self) -> None:
        pass
