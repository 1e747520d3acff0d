"""What a running job says of itself: when its next progress line is due, and how much memory it took."""

import resource
import sys
import time
from pathlib import Path


class Pace:
    """A clock for progress lines: `due()` is true once every `every` seconds."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.began = self.shown = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began

    def due(self, last: bool = False) -> bool:
        """Whether it is time for a line; `last` asks for one in any case."""
        now = time.monotonic()
        if not last and now - self.shown < self.every:
            return False
        self.shown = now
        return True


def peak_mb() -> float:
    """MB resident at this process's peak. Linux's `ru_maxrss` would not do: it begins at the memory of the process that
    started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0]) / 1e3
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, KB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
