"""Jobs as a notebook sees them: map a function over inputs, watch it, read the results."""
