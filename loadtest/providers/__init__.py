"""Wire-level simulators of the outside world: search, LLM and crawler APIs, and a web site."""

from __future__ import annotations

from loadtest.providers.behaviour import PROFILES, Kind, Profile
from loadtest.providers.calls import Call, CallLog
from loadtest.providers.world import Providers

__all__ = ["PROFILES", "Call", "CallLog", "Kind", "Profile", "Providers"]
