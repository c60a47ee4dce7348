"""From a config to a plan: the checked graph, its pools, and which worker runs where."""
