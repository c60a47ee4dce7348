"""Every metric of a pipeline, in one catalogue, and how it is rendered."""
