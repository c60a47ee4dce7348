"""Floors: the least cost of a relay of tensors over a given transport, without any scheduler."""
