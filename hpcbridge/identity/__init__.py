"""Who a session's job belongs to: the service's own account, or the account of who asked for it."""
