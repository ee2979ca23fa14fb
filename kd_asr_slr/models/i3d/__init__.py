"""Landmark streams through inflated-Inception temporal blocks, cross-stream attention, bidirectional LSTM, CTC."""
