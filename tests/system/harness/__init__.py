"""What the system tests stand on: a real PostgreSQL, real and scripted brokers, and the daemon between them."""
