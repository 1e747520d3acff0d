"""Nunchi: which keywords every review speaks of, how the customer feels about each, and which words say so.

`from ray_app import Analyzer, Client`: each is imported when it is first asked for (PEP 562), so that neither needs
what the other imports. `__init__.pyi` tells type checkers of them.
"""

from importlib import import_module

__all__ = ["Analyzer", "Client"]
__version__ = "0.1.0"
_FACE = {"Analyzer": "ray_app.inference.analyzer", "Client": "ray_app.serving.client"}


def __getattr__(name: str) -> object:
    if name not in _FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FACE[name]), name)
