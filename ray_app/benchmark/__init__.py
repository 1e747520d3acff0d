"""Speed, measured: the engine against other methods, an endpoint under load."""
