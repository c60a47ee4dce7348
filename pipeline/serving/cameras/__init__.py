"""Cameras: what a gateway shows of the cameras of its pipelines, and the switches that it has for them."""
