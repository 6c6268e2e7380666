"""The whole system on one machine: servers, simulated outside world, processes, demo.

Nothing here runs in production. `python -m forebay.local up` and `… demo` are what `make` calls;
tests use `servers()` and `Stack`.
"""
