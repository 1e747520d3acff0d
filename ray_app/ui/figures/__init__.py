"""Charts of the page, each with its table and its downloads."""
