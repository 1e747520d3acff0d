"""The pipeline's steps run in many short-lived processes: what they import counts."""

import subprocess
import sys

from ray_app.catalog import pipeline


def test_what_reads_and_commits_needs_no_torch() -> None:
    heavy = {"torch", "transformers", "sklearn"}
    code = f"import sys, {pipeline.__name__}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
