"""What a worker does with its orders: batches, runs, and notes of what it runs."""
