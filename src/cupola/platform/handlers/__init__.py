"""REST and pages, a dozen lines each: who are you, call one service, answer."""
