"""What carries steps to workers: Dask, or the driver itself."""
