"""The delivered file, the predictor that reads it, and its export to other runtimes."""
