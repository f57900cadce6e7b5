"""What containers of sessions stand on: the engine, their network, and the rules of what they may reach."""
