"""Smaller bundles: students of a larger one, and the gate that every one of them passes before it is sealed."""
