"""Reading a catalog: which files are the input, what is in them, and their rows, a bounded number at a time."""
