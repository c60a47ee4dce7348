"""Load: requests at a rate that is wanted, and what became of them; for `pipeline siege`, `client` and `bench`."""
