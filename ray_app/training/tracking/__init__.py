"""A training in a tracker: `follower.py` reads what it writes, `trackers.py` has a shape for each tracker."""
