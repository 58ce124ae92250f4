"""Flags, exit statuses, Markdown tables, plots and studies: code that several programs share."""
