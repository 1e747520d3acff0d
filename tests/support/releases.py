"""An unfinished catalog run of an earlier release, put on S3, where names and versions are the same everywhere."""

from pathlib import Path
from typing import Any

import boto3

from ray_app.catalog import analyze


def upload(*folders: Path) -> None:
    """Puts each folder into the tests' bucket, under its own name."""
    bucket = boto3.resource("s3").Bucket("shop")
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                bucket.upload_file(str(path), str(path.relative_to(folder.parent)))


def options_of_the_run(s3: str, **changes: Any) -> analyze.Config:
    """What the fixtures' runs were begun with."""
    given: dict[str, Any] = {"input": f"{s3}/reviews", "bundle": f"{s3}/bundle", "output": f"{s3}/out"}
    given |= {"placement": "here", "device": "cpu", "unit_rows": 4, "keep": ("mall",)}
    return analyze.Config(**(given | changes))
