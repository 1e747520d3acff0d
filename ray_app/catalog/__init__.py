"""The batch job over a whole catalog: units, commits, resuming, Ray Data."""
