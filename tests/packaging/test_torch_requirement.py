import json
from collections.abc import Mapping, Sequence

import pytest

from torch_requirement import (
    Install,
    Package,
    Refusal,
    decision,
    download_megabytes,
    packages_in,
    refusal_message,
    release_series,
)

RANGE = "torch>=2.11,<2.14"
SYMPY = Package("sympy", "1.14.0", "https://files.example/sympy.whl")
CUDA_BUILD = (
    Package("torch", "2.13.0", "https://files.example/torch.whl"),
    Package("nvidia-cudnn-cu13", "9.20.0.48", "https://files.example/cudnn.whl"),
    Package("cuda-toolkit", "13.0.2", "https://files.example/toolkit.whl"),
    Package("triton", "3.7.1", "https://files.example/triton.whl"),
    SYMPY,
)
CPU_BUILD = (Package("torch", "2.12.1+cpu", "file:///wheels/torch.whl"), SYMPY)


def decided(offers: Mapping[str, Sequence[Package]], *, has_gpu: bool = False, **environment: str) -> Install | Refusal:
    return decision(RANGE, offers.get, has_gpu=has_gpu, environment=environment)


def test_installed_torch_in_range_is_kept() -> None:
    assert decided({RANGE: ()}) == Install(())


def test_installed_torch_in_range_is_kept_though_an_index_is_named() -> None:
    assert decided({RANGE: ()}, TORCH_INDEX="https://index.example") == Install(())


def test_named_index_is_used() -> None:
    expected = Install((RANGE, "--index-url", "https://index.example"))
    assert decided({RANGE: CUDA_BUILD}, TORCH_INDEX="https://index.example") == expected


def test_cpu_build_that_pip_prefers_is_taken_exactly() -> None:
    assert decided({RANGE: CPU_BUILD}) == Install(("torch==2.12.1+cpu",))


def test_cpu_build_of_an_older_series_is_found() -> None:
    offers = {RANGE: CUDA_BUILD, "torch==2.13.*": CUDA_BUILD, "torch==2.12.*": CPU_BUILD}
    assert decided(offers) == Install(("torch==2.12.1+cpu",))


def test_machine_with_gpu_takes_what_pip_prefers() -> None:
    assert decided({RANGE: CUDA_BUILD}, has_gpu=True) == Install((RANGE,))


def test_cuda_build_is_taken_when_allowed() -> None:
    assert decided({RANGE: CUDA_BUILD}, ALLOW_CUDA="1") == Install((RANGE,))


@pytest.mark.parametrize("environment", [{}, {"ALLOW_CUDA": "", "TORCH_INDEX": ""}])
def test_cuda_build_on_machine_without_gpu_is_refused(environment: dict[str, str]) -> None:
    assert decided({RANGE: CUDA_BUILD, "torch==2.13.*": CUDA_BUILD}, **environment) == Refusal(CUDA_BUILD)


def test_refusal_names_the_download_and_both_ways_on() -> None:
    message = refusal_message(Refusal(CUDA_BUILD), 2431)
    assert "2,431 MB for torch 2.13.0 with 3 CUDA packages" in message
    assert "make test TORCH_INDEX=https://download.pytorch.org/whl/cpu" in message
    assert "make test ALLOW_CUDA=1" in message
    assert "\n" not in message


def test_refusal_when_pip_finds_no_torch_names_the_remedy() -> None:
    refusal = decided({})
    assert isinstance(refusal, Refusal)
    assert "TORCH_INDEX=" in refusal_message(refusal, 0)


def test_pip_report_gives_name_version_and_place() -> None:
    entry = {
        "download_info": {"url": "https://files.example/sympy.whl", "archive_info": {}},
        "metadata": {"name": "sympy", "version": "1.14.0"},
    }
    assert packages_in(json.dumps({"version": "1", "install": [entry]})) == (SYMPY,)


def test_release_series_are_all_of_the_range_newest_first() -> None:
    assert release_series(RANGE) == ["torch==2.13.*", "torch==2.12.*", "torch==2.11.*"]


@pytest.mark.parametrize("requirement", ["torch", "torch~=2.11", "torch>=2.11,<3.0"])
def test_release_series_of_another_form_of_range_is_an_error(requirement: str) -> None:
    with pytest.raises(ValueError, match="write the range like that"):
        release_series(requirement)


def test_download_size_leaves_out_files_that_are_here() -> None:
    assert download_megabytes([CPU_BUILD[0]]) == 0
