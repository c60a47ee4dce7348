"""What others run in their environments: models of Triton, and a service of mosec. Nothing here is imported."""
