"""What a release leaves behind when it is upgraded, small: a bundle, an unfinished catalog run, an unfinished training.

In a checkout of that release (`git worktree add --detach D COMMIT`), with this file's own path; it imports that tree:

    cd D && PYTHONPATH=$PWD python TREE/tests/operations/release_fixture.py --output TREE/tests/fixtures/releases/NAME

`fixtures/before_the_move` gives reviews, labels, taxonomy and base model. Out: bundle/, out/ (three units of five
committed), expected.jsonl (an undisturbed run), training/ (killed after two of three epochs of keywords),
expected_metrics.jsonl, serve.yaml. `tests/test_upgrade.py` goes on from there.
"""

import argparse
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

SOURCE = Path(__file__).resolve().parents[1] / "fixtures" / "before_the_move"
COMMITTED, EPOCHS = 3, 2
TRAINING = {"validation": 0.1, "max_length": 96, "epochs": 3, "batch_size": 16, "device": "cpu"}
TRAINING |= {"learning_rate": 0.001, "dropout": 0.0, "encoder_dropout": 0.0, "workers": 0, "patience": 0}


class Death(BaseException):
    """As if the process had been killed."""


def after(calls: int, function: Callable[..., Any], counts: Callable[..., bool]) -> Callable[..., Any]:
    """The function, which dies at the end of the call after so many that count."""
    left = [calls]

    def call(*arguments: Any, **named: Any) -> Any:
        if counts(*arguments):
            left[0] -= 1
            if left[0] < 0:
                raise Death
        return function(*arguments, **named)

    return call


def known(config: type, options: dict[str, Any]) -> dict[str, Any]:
    """The options that this release knows."""
    names = {field.name for field in dataclasses.fields(config)}
    return {name: value for name, value in options.items() if name in names}


def train(folder: Path, output: Path) -> None:
    """A whole training, whose bundle stays; and one that dies."""
    from ray_app.training import checkpoints
    from ray_app.training import train as training

    for name in ("labels.jsonl", "taxonomy.yaml"):
        shutil.copy(SOURCE / name, folder / name)
    shutil.copytree(SOURCE / "base", folder / "base")
    places = {"labels": "labels.jsonl", "taxonomy": "taxonomy.yaml", "base_model": "base"}
    options = {**TRAINING, **{name: str(folder / place) for name, place in places.items()}}
    for name in ("calm", "b"):
        named = known(training.Config, {**options, "output": str(folder / name)})
        if name == "b":
            whole = checkpoints.MetricsLog.__call__
            checkpoints.MetricsLog.__call__ = after(EPOCHS, whole, lambda *_: True)  # type: ignore[method-assign]
        try:
            training.run(training.Config(**named))
        except Death:
            checkpoints.MetricsLog.__call__ = whole  # type: ignore[method-assign]
    shutil.copytree(folder / "calm", output / "bundle")
    shutil.copy(next(folder.glob("calm.training/metrics.jsonl")), output / "expected_metrics.jsonl")
    shutil.copytree(folder / "b.training", output / "training", ignore=shutil.ignore_patterns("tensorboard", "_lease"))
    saved = output / "training" / "config.json"
    saved.write_text(saved.read_text(encoding="utf-8").replace(str(folder), "FOLDER"), encoding="utf-8")


def analyze(output: Path) -> None:
    """A whole run, whose rows are kept; and one that dies."""
    from ray_app import storage
    from ray_app.catalog import analyze as analysis

    bucket = boto3.resource("s3").create_bucket(Bucket="shop")
    for folder, name in ((SOURCE, "reviews"), (output, "bundle")):
        for path in (folder / name).rglob("*"):
            if path.is_file():
                bucket.upload_file(str(path), str(path.relative_to(folder)))
    common: dict[str, Any] = {
        "input": "s3://shop/reviews",
        "bundle": "s3://shop/bundle",
        "placement": "here",
        "device": "cpu",
    }
    common |= {"unit_rows": 4, "keep": ("mall",)}
    analysis.run(analysis.Config(**known(analysis.Config, {**common, "output": "s3://shop/calm"})))
    rows = storage.read_parquet("s3://shop/calm/data").sort_by("review_id").to_pylist()
    lines = [json.dumps(row, ensure_ascii=False, default=str) for row in rows]
    (output / "expected.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    storage.create = after(COMMITTED, storage.create, lambda uri, *_: "/_units/" in uri)
    try:
        analysis.run(analysis.Config(**known(analysis.Config, {**common, "output": "s3://shop/out"})))
    except Death:
        print("the run died")
    for item in bucket.objects.filter(Prefix="out/"):
        target = output / item.key
        target.parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file(item.key, str(target))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output.absolute()
    output.mkdir(parents=True)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    os.environ |= {"AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port())}
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder), output)
    shutil.copy(Path("deploy/serve.yaml"), output / "serve.yaml")
    analyze(output)
    server.stop()


if __name__ == "__main__":
    main()
