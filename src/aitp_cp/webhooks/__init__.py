"""Who is told of events: subscriptions, their secrets, and the view of their circuit breakers."""
