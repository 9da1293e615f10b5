"""The admin audit: who changed what, written in the transaction of the change."""
