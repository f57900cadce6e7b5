"""Plain typed data that all parts share, by noun. Nothing here knows another part of Cupola."""
