"""Feeding, for `pipeline run CONFIG FILE...`: files in, answers out, in the order of the files.

It is a client like any other: it uses nothing that an application could not.
"""
