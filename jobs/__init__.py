"""The verbs: each is `python -m jobs.VERB`; `python -m jobs` lists them."""

import sys
from importlib.util import find_spec

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets this line, not a traceback
    sys.exit(f"error: Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}; use .venv/bin/python")
for package in ("numpy", "pyarrow", "torch", "ray"):  # a system's own interpreter has none; extras are told where used
    if find_spec(package) is None:
        from ray_app.errors import no_package

        print(f"error: {no_package(ModuleNotFoundError(name=package))}", file=sys.stderr)
        sys.exit(2)
