"""An actor that some reviews break, as a model's bug or running out of memory breaks a real one."""

import os
from typing import TYPE_CHECKING

import pyarrow as pa

from ray_app.catalog import pipeline
from ray_app.catalog.executors import Actor

if TYPE_CHECKING:
    from ray_app.catalog.options import Config

RAISES, KILLS = "이 리뷰는 모델이 못 읽는다", "이 리뷰는 프로세스를 죽인다"


class Lane(pipeline.Lane):
    """Raises on the review RAISES, dies on the review KILLS."""

    def run_stages(self, table: pa.Table) -> pa.Table:
        texts = set(table["text"].to_pylist())
        if KILLS in texts:
            os._exit(139)
        if RAISES in texts:
            raise ValueError("index out of range")
        return super().run_stages(table)


class Deadly(Actor):
    """An actor with such lanes."""

    def _load(self, config: "Config", threads: int, last: bool) -> list[pipeline.Lane]:
        lanes = super()._load(config, threads, last)
        for lane in lanes:
            lane.__class__ = Lane
        return lanes
