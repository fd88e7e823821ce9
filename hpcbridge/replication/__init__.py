"""Several services on one database: who leads, who is told."""
