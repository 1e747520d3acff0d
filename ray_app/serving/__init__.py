"""The HTTP endpoint on Ray Serve, and its client."""
