"""Pure: what was decided becomes a plan. No input or output, so golden files test it."""
