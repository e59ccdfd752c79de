"""The benchmark ``ladseg bench``: the cost of training and prediction, relative to the networks' arithmetic."""
