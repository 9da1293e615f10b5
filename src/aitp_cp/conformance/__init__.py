"""The contract as checks that a stranger can run against any deployment, over HTTP alone."""
