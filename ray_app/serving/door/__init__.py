"""The port that clients reach, in front of Serve or of the page. In: a port and what it leads to. Out: its answers."""

from ray_app.serving.door.listener import Door, DoorLimits

__all__ = ["Door", "DoorLimits"]
