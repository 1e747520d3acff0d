"""What of a model trains: all of it, or a small part that is kept beside its base; see `kinds.py`."""
