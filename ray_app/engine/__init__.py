"""An encoder run fast: texts -> token ids -> logits, without padding. Knows no bundle, no Ray, only model folders."""
