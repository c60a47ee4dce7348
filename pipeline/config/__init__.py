"""The YAML: its schema, its only reader, and errors that name a line."""
