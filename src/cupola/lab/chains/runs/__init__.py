"""A chain at full resolution: one product per item or a grid in pieces, and the same once more."""
