import subprocess
import sys


def test_what_reads_and_commits_needs_no_torch() -> None:
    """It runs in many short-lived processes."""
    code = (
        "import sys, ray_app.catalog.pipeline; sys.exit(bool({'torch', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
