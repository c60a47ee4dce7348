"""The machine as values: CPUs, NUMA nodes, GPUs, memory and their limits."""
