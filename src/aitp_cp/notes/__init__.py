"""What operators note about agents: who owns one, labels, a remark. Never what an agent claims of itself."""
