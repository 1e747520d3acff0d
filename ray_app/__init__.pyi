from ray_app.inference.analyzer import Analyzer
from ray_app.serving.client import Client

__all__ = ["Analyzer", "Client"]
__version__: str
