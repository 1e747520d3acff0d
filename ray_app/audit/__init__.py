"""Which labels look wrong, how well that is found, what a new version is worth."""
