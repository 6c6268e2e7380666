"""What a process tells about itself: events (logs), metrics, later traces."""
