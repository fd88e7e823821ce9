"""Addresses, listeners and bytes between two connections."""
