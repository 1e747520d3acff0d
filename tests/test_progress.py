"""What a running job says of itself."""

import subprocess
import sys

from ray_app.progress import peak_mb
from tests.support.paths import ROOT


def test_the_peak_of_a_process_is_not_that_of_the_process_that_started_it() -> None:
    large = bytearray(400_000_000)
    large[::4096] = b"x" * len(range(0, len(large), 4096))
    assert peak_mb() > 400
    program = "from ray_app.progress import peak_mb; print(peak_mb())"
    small = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 5 < float(small.stdout) < 200
