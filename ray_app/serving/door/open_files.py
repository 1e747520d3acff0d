"""How many files this process may have open: a connection through the door takes two."""

import contextlib
import resource

FILES = (65_536, 10_240)  # that may be open: as many as that, or as macOS allows


def allow_files() -> None:
    """Raises the limit of open files as far as it goes, up to FILES."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in FILES:
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if resource.RLIM_INFINITY in (soft, wanted) or soft >= wanted:
            return
        with contextlib.suppress(ValueError, OSError):  # macOS takes no more than its kernel allows
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return
