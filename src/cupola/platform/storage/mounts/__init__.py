"""Buckets, exports and folders as mounts below one shared folder, which outlive the portal that made them."""
