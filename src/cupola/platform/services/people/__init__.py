"""People and teams: who comes in, who belongs to whom, and what they share."""
