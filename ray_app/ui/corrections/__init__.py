"""Findings corrected in the page: a draft of a review's labels, its editor, and the file that it becomes."""
