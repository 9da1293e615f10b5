import os

# What these tests are about exists for root alone: choosing the account Postgres runs as.
collect_ignore = [] if os.geteuid() == 0 else ["test_embedded_as_root.py"]
