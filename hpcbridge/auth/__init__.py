"""Who asks: users told by the front end or proved by an API token, and what each may do."""
