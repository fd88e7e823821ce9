"""How users reach sessions: routes, and the web servers that look them up."""
