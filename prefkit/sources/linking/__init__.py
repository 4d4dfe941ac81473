"""Linking: the names in source files become ids, and every record of the files gets one outcome.

Prompts come first (`prompts`), since a completion is of a prompt; then completions (`completions`), since scores and
comparisons (`ratings`) are about them. `whole` does all three, and `facts` brings what was linked into the types of
`prefkit.records`.
"""
