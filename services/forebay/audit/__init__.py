"""Whether what was promised was kept, judged from outside.

By what callers were told, by what the store holds, and by what reached the providers. Nothing here
changes anything.

- `ledger`: what callers asked and were answered, kept in a file of their own.
- `verdict`: ledger, jobs and provider calls, and what of them does not fit together.
- `paths`: whether one job went only the ways that `TRANSITIONS` knows.
- `calls`: the providers' own log of calls.
- `reading`: the jobs of a ledger, from the store.
"""
