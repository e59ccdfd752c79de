"""One run: its trainings, networks, folder, validation and pictures."""
