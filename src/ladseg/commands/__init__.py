"""What the commands predict, evaluate, submit, check and report do."""
