"""Loads the bundle that the first argument names and prints its id."""

import sys

from ray_app.inference import bundle

if __name__ == "__main__":
    print(bundle.load(sys.argv[1]).id)
