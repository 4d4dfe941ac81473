"""Models, engines and a server for the whole session, each started once; the count that continuous integration reads.

The server starts first and comes up while the engines in this process are tested.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read when vllm, torch and huggingface_hub are first imported. The models are tiny: threads would wait for each other.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",
}

from tests_engines import models
from tests_engines.servers import Server

FEWEST = 12


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.written(models.language_model(tie_word_embeddings=True), tmp_path_factory.mktemp("tied"))


@pytest.fixture(scope="session")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.written(models.language_model(tie_word_embeddings=False), tmp_path_factory.mktemp("untied"))


@pytest.fixture(scope="session", autouse=True)
def starting(tied: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tied, tmp_path_factory.mktemp("server") / "log", "--logprobs-mode", "processed_logprobs")
    yield server
    server.kill()


@pytest.fixture(scope="session")
def server(starting: Server) -> Server:
    starting.wait()
    return starting


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = {kind: len(terminalreporter.stats.get(kind, ())) for kind in ("passed", "failed", "error", "skipped")}
    ran = counts["passed"] + counts["failed"]
    terminalreporter.write_line(f"engine tests: {ran} ran, {counts['skipped']} skipped, at least {FEWEST} must run")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Too few tests, or a skipped one, fail the run, when all were asked for."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert isinstance(reporter, pytest.TerminalReporter)
    whole = not session.config.option.keyword and all("::" not in a for a in session.config.args)
    too_few = len(reporter.stats.get("passed", ())) < FEWEST or reporter.stats.get("skipped")
    if whole and too_few and session.exitstatus == 0:
        session.exitstatus = 1
