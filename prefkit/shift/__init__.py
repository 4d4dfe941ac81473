"""Shift: does this data fit the model it will train? Numbers in, report out."""
