"""The gate for reported batches: normalise, project, append, enqueue, in one transaction."""
