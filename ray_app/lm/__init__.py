"""Causal language models: data, training, constrained generation, evaluation."""
