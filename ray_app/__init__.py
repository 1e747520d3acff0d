"""Nunchi: which keywords every review speaks of, how the customer feels about each, and which words say so."""

__version__ = "0.1.0"
