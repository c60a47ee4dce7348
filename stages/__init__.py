"""Computation. A stage does not know that processes exist."""
