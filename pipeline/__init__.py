"""Processes, sockets, files and signals: a YAML file becomes a running inference pipeline.

Import from the modules; an application needs `pipeline.client`, a test `pipeline.testing`.
"""
