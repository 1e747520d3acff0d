"""Which reviews to label next, and whether choosing pays."""
