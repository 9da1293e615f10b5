"""Numbers and charts for the operator's first screen."""
