"""What HTTP needs around the API: requests, responses, events, access, where it listens."""
