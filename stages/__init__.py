"""Computation: stages. A stage does not know that processes exist."""
