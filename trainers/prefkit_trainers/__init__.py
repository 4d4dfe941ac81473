"""Thin trainers: a TRL trainer or our own, a stream of preference rows, a callback that reports to its clock."""
