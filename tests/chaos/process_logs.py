"""What our processes logged, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any


def log_lines(path: Path, event: str, since: float = 0.0) -> Iterator[dict[str, Any]]:
    """The lines of that event from that time on, in seconds of the epoch."""
    for line in path.read_text().splitlines():
        # What is no line of ours (the sentence at a bad end, a half written one) says nothing here.
        if line.startswith('{"') and line.endswith("}") and f'"event": "{event}"' in line:
            said: dict[str, Any] = json.loads(line)
            if datetime.fromisoformat(said["timestamp"]).timestamp() >= since:
                yield said
