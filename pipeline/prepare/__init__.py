"""From a config to a plan: asks a child process what the stages declare, reads the machine, and plans."""
