"""Thresholds moved in the page: what others would find, and the file that they are saved to."""
