"""The life of a session, and all sessions of this service."""
