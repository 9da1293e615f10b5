"""Who is enrolled: agents, their signed manifests, and how peers discover them."""
