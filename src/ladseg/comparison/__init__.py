"""Methods side by side: what they are, what they cost, what they reached."""
