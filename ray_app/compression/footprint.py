"""How much room a bundle takes: on disk, and in the memory of a process that analyzes with it.

In: a bundle's folder, texts. Out: bytes; megabytes at the peak.
"""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from ray_app.errors import UserError
from ray_app.progress import peak_mb


def bytes_of(folder: Path) -> int:
    """All files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def peak_memory(bundle: str, device: str, texts: Sequence[str]) -> float:
    """MB resident at the peak of a process of its own that loads the bundle and masks every word of a few texts."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_child, args=(there, bundle, device, list(texts)), daemon=True)
    process.start()
    there.close()
    try:
        return float(here.recv())
    except EOFError:
        raise UserError(f"bundle {bundle}: the process that measures its memory died") from None
    finally:
        process.join(30)


def _child(connection: Connection, bundle: str, device: str, texts: list[str]) -> None:
    from ray_app.inference.analyzer import Analyzer

    Analyzer(bundle, device, highlights="exact")(texts)
    connection.send(peak_mb())
