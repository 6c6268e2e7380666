"""Fakes that ship: the real contracts in memory, with knobs for faults. Not mocks."""
