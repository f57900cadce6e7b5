"""What lies on disks."""
