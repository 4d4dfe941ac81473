import pkgutil
import subprocess
import sys

import prefkit.stream


def test_stream_works_where_lance_and_torch_are_not_installed() -> None:
    modules = [module.name for module in pkgutil.iter_modules(prefkit.stream.__path__, "prefkit.stream.")]
    assert "prefkit.stream.recording" in modules
    missing = "import sys; sys.modules |= {'lance': None, 'torch': None, 'transformers': None}; "
    subprocess.run([sys.executable, "-c", missing + f"import {', '.join(modules)}"], check=True)
