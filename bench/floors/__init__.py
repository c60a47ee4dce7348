"""Floors: the least that a relay of tensors costs over a given transport, with nobody who decides."""
