"""The ingress: takes requests over HTTP, stores them durably, answers at once, publishes behind."""
