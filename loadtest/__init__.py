"""Load scenes and the simulated outside world; never imported by the product."""
