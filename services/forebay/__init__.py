"""Forebay accepts slow API calls at once and digests them at the rate the providers bear."""

from __future__ import annotations

__version__ = "0.1.0"
