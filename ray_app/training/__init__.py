"""Trains both classifiers and pre-trains encoders; language models train in the same loop."""
