"""Compare methods: define them, train them, count their costs and judge their results."""
