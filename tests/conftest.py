"""What holds for every test: no Hub, no workspace but its own, property tests that give the same answer twice."""

import os

import pytest
from hypothesis import settings

# Read when huggingface_hub is first imported, so it is set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # the models are tiny; on a busy machine two threads wait for each other
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads make every fork warn

# No deadline: a slow machine is not a wrong answer.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate")


@pytest.fixture(autouse=True)
def no_workspace_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFKIT_WORKSPACE", raising=False)
