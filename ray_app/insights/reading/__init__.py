"""Analyses of any size read once: batches as small arrays, here or on a cluster. In: Parquet. Out: Parts, a Store."""
