"""Runs an encoder fast: texts -> token ids -> logits, without padding. Knows model folders, no bundle and no Ray."""
