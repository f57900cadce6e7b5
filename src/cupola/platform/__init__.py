"""The portal: every decision of the platform, behind pages and a REST API. No user code runs here."""
