"""A program of steps computed on a grid: for a viewport, a place, an area, or a whole file window by window."""
