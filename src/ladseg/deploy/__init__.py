"""The delivered file, the predictor that reads it, and the export to other runtimes."""
