"""Telling callers of the end of their jobs, by the rules of Standard Webhooks 1.0."""
