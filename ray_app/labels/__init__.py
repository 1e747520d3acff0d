"""Labeled reviews: read and checked, exchanged with labeling tools, merged, kept in versions."""
