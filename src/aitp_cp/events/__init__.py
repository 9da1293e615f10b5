"""THE LOG: every event, reported or our own, under one commit-ordered sequence."""
