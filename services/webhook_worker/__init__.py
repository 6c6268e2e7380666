"""The worker that delivers webhooks: a delivery is a job like any other, to a caller's own API."""
