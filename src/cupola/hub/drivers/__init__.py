"""What sessions run in, one file per compute driver."""
