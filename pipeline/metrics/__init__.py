"""Every metric of a pipeline in one catalogue, and the rendering."""
