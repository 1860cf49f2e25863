"""What keeps a service running: server, log, metrics, commands."""
