"""The commands that the server adds to `aitp-cp`."""
