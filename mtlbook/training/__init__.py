"""Training: the replicas of all seeds learn at once, in one readable loop."""
