"""Pages, tables, figures and pictures."""
