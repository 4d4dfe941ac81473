"""Which torch to install, asked before pip installs one: gigabytes of CUDA packages never come by surprise.

Prints the arguments for `pip install` on standard output, nothing when the installed torch will do. In this order:

1. an installed torch within the range of the `transformers` extra;
2. the index in `TORCH_INDEX`, as the user said so;
3. on a machine with a GPU, or with `ALLOW_CUDA=1`: whatever pip prefers;
4. the newest release series within the range for which pip's answer is a build without CUDA packages;
5. otherwise it stops with one line: what would be downloaded, and the two ways on.

Run with the Python of the environment that torch goes into. Uses nothing but the standard library.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from urllib.error import URLError
from urllib.request import Request, urlopen

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_PACKAGE = re.compile(r"(nvidia|cuda|triton)\b")
NETWORK_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Package:
    """One package that pip would install, and where its file lies."""

    name: str
    version: str
    url: str

    @property
    def is_cuda(self) -> bool:
        """Whether it exists only for computing on a GPU."""
        return CUDA_PACKAGE.match(self.name.lower()) is not None


@dataclass(frozen=True, slots=True)
class Install:
    """The decision to call `pip install` with these arguments; none when there is nothing to do."""

    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The decision to install nothing: these packages would come along."""

    packages: tuple[Package, ...]


def packages_in(report: str) -> tuple[Package, ...]:
    """What a report of `pip install --dry-run --report -` says would be installed."""
    return tuple(
        Package(entry["metadata"]["name"], entry["metadata"]["version"], entry["download_info"]["url"])
        for entry in json.loads(report)["install"]
    )


def release_series(requirement: str) -> list[str]:
    """`torch>=2.11,<2.14` as `torch==2.13.*`, `torch==2.12.*`, `torch==2.11.*`: newest first."""
    bounds = re.fullmatch(r"torch>=(\d+)\.(\d+),<(\d+)\.(\d+)", requirement)
    if bounds is None or bounds[1] != bounds[3]:
        raise ValueError(f"got {requirement!r}, expected `torch>=X.A,<X.B`: write the range like that")
    return [f"torch=={bounds[1]}.{minor}.*" for minor in range(int(bounds[4]) - 1, int(bounds[2]) - 1, -1)]


def decision(
    requirement: str,
    resolution: Callable[[str], Sequence[Package] | None],
    *,
    has_gpu: bool,
    environment: Mapping[str, str],
) -> Install | Refusal:
    """What to do about torch.

    `resolution` tells what pip would install for a requirement: nothing when it is met, None where pip finds none.
    """
    preferred = resolution(requirement)
    if preferred is not None and not preferred:
        return Install(())
    if index := environment.get("TORCH_INDEX"):
        return Install((requirement, "--index-url", index))
    if has_gpu or environment.get("ALLOW_CUDA") == "1":
        return Install((requirement,))
    for candidate in [requirement, *release_series(requirement)]:
        found = preferred if candidate == requirement else resolution(candidate)
        if found and not any(package.is_cuda for package in found):
            return Install(tuple(f"{p.name}=={p.version}" for p in found if p.name == "torch"))
    return Refusal(tuple(preferred or ()))


def refusal_message(refusal: Refusal, megabytes: int | None, target: str = "test") -> str:
    """One line: what pip would download, and the two ways on with a target of the Makefile."""
    if not refusal.packages:
        way = f"`make {target} TORCH_INDEX={CPU_INDEX}`"
        return f"pip finds none in the range of pyproject.toml: name an index, as in {way}"
    torch = next(f"torch {p.version}" for p in refusal.packages if p.name == "torch")
    cuda = sum(package.is_cuda for package in refusal.packages)
    size = "an unknown number of" if megabytes is None else f"{megabytes:,}"
    return (
        f"this machine has no GPU, and pip would download {size} MB for {torch} with {cuda} CUDA packages: use a CPU "
        f"build (`make {target} TORCH_INDEX={CPU_INDEX}`) or accept the download (`make {target} ALLOW_CUDA=1`)"
    )


def pip_resolution(requirement: str) -> tuple[Package, ...] | None:
    """What pip would install here and now, or None where it finds nothing.

    Reads metadata only: with `fast-deps` pip takes it out of the middle of a wheel, also from an index that does not
    offer it separately (needs pip >= 23.3).
    """
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--use-feature=fast-deps", "--report", "-"]
    done = subprocess.run([*pip, requirement], capture_output=True, text=True, check=False)
    return packages_in(done.stdout) if done.returncode == 0 else None


def download_megabytes(packages: Sequence[Package]) -> int | None:
    """The size of all files together, None when a server does not tell."""
    sizes = [_file_bytes(package.url) for package in packages]
    return None if None in sizes else round(sum(size for size in sizes if size is not None) / 1e6)


def _file_bytes(url: str) -> int | None:
    if url.startswith("file:"):
        return 0  # it is here already
    try:
        with urlopen(Request(url, method="HEAD"), timeout=NETWORK_SECONDS) as answer:  # noqa: S310  the URL is pip's own
            length = answer.headers["Content-Length"]
    except URLError:
        return None
    return int(length) if length else None


def _torch_range() -> str:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["transformers"]
    return next(requirement for requirement in extra if requirement.startswith("torch"))


def has_gpu() -> bool:
    """Whether the driver sees a GPU of NVIDIA's."""
    program = which("nvidia-smi")
    return program is not None and subprocess.run([program, "-L"], capture_output=True, check=False).returncode == 0


def main() -> None:
    """Print pip's arguments, or stop with one line and exit code 1."""
    decided = decision(_torch_range(), pip_resolution, has_gpu=has_gpu(), environment=os.environ)
    if isinstance(decided, Refusal):
        raise SystemExit(f"torch: {refusal_message(decided, download_megabytes(decided.packages))}")
    print(*decided.arguments)


if __name__ == "__main__":
    main()
