"""Variables of kernels that are gone: stored by the kernel itself, given to the next one."""
