"""Bidirectional LSTM with a CTC head."""
