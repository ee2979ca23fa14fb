"""Losses between a student's output, the teachers' signal and the labels; one file a loss, named in `table.LOSSES`.

Every loss is called as `loss(output, signal, batch, temperature)` and returns one value per utterance, [B].
"""
