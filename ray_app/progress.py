"""When the next progress line is due."""

import time


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
