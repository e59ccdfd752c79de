"""``ladseg bench``: what training and predicting cost, compared with the arithmetic of the networks."""
