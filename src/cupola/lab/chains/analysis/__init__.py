"""What is measured on the surface a chain computes: contours, lines, views, regions of a vector layer."""
