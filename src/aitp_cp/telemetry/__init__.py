"""Logs, metrics and traces."""

# Names the folder in which processes that share a port leave their metrics for each other. The client library looks
# when it is loaded, so whoever sets it does so before anything imports `metrics`.
SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"
