"""What comes out of runs: frames, metrics, tables, comparisons and plots. Nothing here trains or asks."""
