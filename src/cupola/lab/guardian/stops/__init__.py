"""What goes on in a session, told to the portal, and stops that are planned."""
