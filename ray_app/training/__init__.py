"""Trains a bundle's models and pre-trains encoders; language models train in the same loop."""
