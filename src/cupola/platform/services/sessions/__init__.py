"""Sessions: what people may launch, where it runs, what it costs and why it ended."""
