"""The work of the commands check, init, eval, predict, submit, report and of reduced-precision export."""
