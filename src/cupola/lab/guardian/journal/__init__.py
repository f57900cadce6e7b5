"""The journal of a kernel, read: which cell was executed, and what came of it."""
