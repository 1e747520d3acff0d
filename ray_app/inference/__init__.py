"""A bundle and a review -> findings: keywords, scores, highlighted words. Plain Python."""
