"""Who sits before the console: sign-in by API key or single sign-on, and the sessions of browsers."""
