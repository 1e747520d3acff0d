"""The two classifiers are trained and pre-trained; the loop serves language models too."""
