from importlib import import_module
from importlib.util import find_spec

import pytest

import prefkit
from tests.packaging.distribution import MODEL_LIBRARIES, loaded_by, module_names, needs_models


@pytest.mark.parametrize("module", module_names())
def test_module_imports(module: str) -> None:
    if needs_models(module) and find_spec("torch") is None:
        pytest.skip("torch is not installed")
    assert import_module(module).__name__ == module


def test_core_imports_without_loading_models() -> None:
    core = [module for module in module_names() if module.startswith("prefkit.") and not needs_models(module)]
    assert not loaded_by(f"import {', '.join(core)}") & MODEL_LIBRARIES


def test_package_root_loads_nothing_heavy() -> None:
    assert loaded_by("import prefkit") == set()


@pytest.mark.parametrize("name", prefkit.__all__)
def test_package_root_offers_what_it_names(name: str) -> None:
    assert getattr(prefkit, name) is not None
    assert name in dir(prefkit)


def test_package_root_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'prefkit' has no attribute 'biuld'"):
        _ = prefkit.biuld  # type: ignore[attr-defined]
