"""HTML pages, tables, plots and pictures of results."""
