"""The verbs: each is `python -m jobs.VERB`; `python -m jobs` lists them."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets this line, not a traceback
    sys.exit(f"error: Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}; use .venv/bin/python")
