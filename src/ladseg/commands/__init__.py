"""The work behind the commands eval, predict, submit, check and report."""
