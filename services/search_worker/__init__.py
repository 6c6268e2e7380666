"""The worker that digests search jobs: one call to one search API, answered in one shape."""
