"""vLLM's server as a process of ours, on a free port of this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import torch

READY_S = 300


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class Server:
    """Starts at once; `wait` returns when it answers."""

    def __init__(self, model: Path, log: Path, *arguments: str, port: int | None = None) -> None:
        self.model = model
        self.port = port or free_port()
        self._log = log
        on_cpu = () if torch.cuda.is_available() else ("--enforce-eager", "--no-enable-chunked-prefill")
        command = [
            sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
            "--host", "127.0.0.1", "--port", str(self.port), "--dtype", "float32", "--max-num-seqs", "64",
            "--worker-extension-cls", "prefkit.engines.vllm.worker.WeightReload", *on_cpu, *arguments,
        ]  # fmt: skip
        with log.open("w") as opened:
            self._process = subprocess.Popen(
                command,
                stdout=opened,
                stderr=subprocess.STDOUT,
                env={**os.environ, "VLLM_SERVER_DEV_MODE": "1"},
                start_new_session=True,
            )

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def wait(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with suppress(URLError, OSError, HTTPException), urlopen(f"{self.root}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.5)
        raise AssertionError(f"the server did not start:\n{self._log.read_text()[-4000:]}")

    def kill(self) -> None:
        """With everything it started: they are a process group of their own."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
