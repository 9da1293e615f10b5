"""The control plane's own key and signed manifest."""
