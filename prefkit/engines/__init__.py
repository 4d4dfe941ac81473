"""The only core package that imports torch and transformers. Reached by name, through registries.

Whoever asks for an engine asks `prefkit.sampling.registry`; nothing else in the core imports this package.
"""
