"""One module a screen: its view, its handlers, and `PAGES`, the rows of the endpoint table."""
