"""Landmark streams through MobileNetV3-Small blocks over time, bidirectional LSTM, CTC."""
