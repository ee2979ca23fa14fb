"""What the toolkit's own CTC networks share.

| name | what |
|---|---|
| `recogniser.CtcRecogniser` | everything after the embedding of a frame: front, bidirectional LSTM, classifiers |
| `configuration.RecogniserConfig` | its options, with the temporal convolution front and the auxiliary classifier |
| `streams.StreamEncoders`, `streams.GatedFusion` | column ranges of the features as streams, weighed by learned gates |
| `frames` | valid frames, lengths, the order of frames |
"""
