"""One cluster: its job watcher, log follower, health, queue status, forecasts and placement."""
