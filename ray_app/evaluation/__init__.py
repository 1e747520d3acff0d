"""How good predictions are: metrics, baseline, report."""
