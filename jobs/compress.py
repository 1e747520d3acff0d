"""A bundle and unlabeled reviews -> a smaller, faster bundle that says the same, or an error that says where it fails.

example: python -m jobs.compress --bundle ready --input reviews.parquet --layers 4 --output runs/smaller
cluster: ray job submit --working-dir . --entrypoint-num-gpus 1 -- python -m jobs.compress \\
             --input s3://shop/reviews --labels s3://shop/labels --output s3://shop/smaller
"""

from ray_app.cli import main
from ray_app.compression import gate, onnx_export, shrink
from ray_app.compression.distil_options import DistilConfig
from ray_app.compression.gate import GateConfig
from ray_app.compression.onnx_export import OnnxConfig
from ray_app.compression.shrink import ChainConfig, SliceConfig, StepConfig, StoreConfig, VocabularyConfig

CHAIN = """All of it: distil, vocabulary, int8, store; what `python -m jobs.compress` does.

example: python -m jobs.compress chain --steps vocabulary,int8,store --input reviews.parquet --output runs/smaller
"""
DISTIL = """A bundle and unlabeled reviews -> a student of it with fewer layers, or narrower ones.

example: python -m jobs.compress distil --bundle ready --input reviews.parquet --layers 4 --output runs/student
"""
SLICE = """A bundle -> the same without the layers and feed-forward neurons that matter least; nothing is taught.

example: python -m jobs.compress slice --bundle runs/bundle --intermediate 1024 --output runs/smaller
"""
VOCABULARY = """A bundle -> the same without the pieces of its tokenizer that never occur in reviews.

example: python -m jobs.compress vocabulary --bundle runs/bundle --input reviews.parquet --output runs/smaller
"""
INT8 = """A bundle -> the same with products in int8 on CPUs, a scale per token.

example: python -m jobs.compress int8 --bundle runs/bundle --labels labels.parquet --output runs/smaller
"""
STORE = """A bundle -> the same with its weights in 8 bits on disk, or in 4.

example: python -m jobs.compress store --bundle runs/bundle --weights int4 --labels labels.parquet --output runs/smaller
"""
ONNX = """A bundle -> its classifiers as ONNX, with tokenizer and a runner that needs no torch.

example: python -m jobs.compress onnx --bundle runs/bundle --output runs/onnx
"""
GATE = """Two bundles and labels -> whether the smaller one may replace the other: a table; exit code 1 where it fails.

example: python -m jobs.compress gate --bundle ready --smaller runs/student --labels labels.parquet
"""

if __name__ == "__main__":
    main(
        ChainConfig,
        shrink.chain,
        __doc__,
        chain=(ChainConfig, shrink.chain, CHAIN),
        distil=(DistilConfig, shrink.distil, DISTIL),
        slice=(SliceConfig, shrink.cut, SLICE),
        vocabulary=(VocabularyConfig, shrink.vocabulary, VOCABULARY),
        int8=(StepConfig, shrink.int8, INT8),
        store=(StoreConfig, shrink.store, STORE),
        onnx=(OnnxConfig, onnx_export.run, ONNX),
        gate=(GateConfig, gate.run, GATE),
    )
