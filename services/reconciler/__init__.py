"""Puts right what processes and servers leave undone when they die."""
