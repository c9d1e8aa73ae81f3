"""What can happen to a cluster. A fault counts only with evidence that it took effect."""
