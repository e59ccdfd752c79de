"""``ladseg bench``: what training and predicting cost, beside what the networks' own arithmetic costs."""
