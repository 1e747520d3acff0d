"""An actor that some reviews break, as a model's bug or running out of memory breaks a real one."""

import os

import pyarrow as pa

from ray_app.catalog.executors import Actor

RAISES, KILLS = "이 리뷰는 모델이 못 읽는다", "이 리뷰는 프로세스를 죽인다"


class Deadly(Actor):
    """Raises on the review RAISES, dies on the review KILLS."""

    def run_stages(self, table: pa.Table) -> pa.Table:
        texts = set(table["text"].to_pylist())
        if KILLS in texts:
            os._exit(139)
        if RAISES in texts:
            raise ValueError("index out of range")
        return super().run_stages(table)
