"""The worker that digests LLM jobs: one conversation, one answer, in any provider's dialect."""
