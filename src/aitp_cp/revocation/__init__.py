"""The deny list: which tokens the control plane declares revoked, and its signed publication."""
