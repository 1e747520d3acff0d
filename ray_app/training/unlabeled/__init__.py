"""Keywords that nobody labeled: the reader that makes their queries, and the bundle that is guessed with it."""
