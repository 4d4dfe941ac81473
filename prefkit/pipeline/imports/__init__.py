"""Imports: bringing files into the fact tables, and what builds read of it."""
