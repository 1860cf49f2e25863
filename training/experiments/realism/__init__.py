"""Is simulated land like real land? Statistics of both, beside each other."""
