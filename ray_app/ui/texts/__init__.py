"""Texts of the page beyond those of its frame, in Korean and English."""
