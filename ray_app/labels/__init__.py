"""Labelled reviews: read and checked, exchanged with labelling tools, merged, kept in versions."""
