"""The workspace on disk: fact tables, versions, tags, and the care that keeps them whole.

Facts are append-only Lance tables; versions are Arrow files with a manifest. Nothing outside this package names Lance.
"""
