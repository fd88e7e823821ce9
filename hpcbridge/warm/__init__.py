"""Warm sessions: started before anybody asks, handed out at once."""
