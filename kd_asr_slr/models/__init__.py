"""The networks, one folder each, and what every part of the toolkit needs to run any of them.

| name | what |
|---|---|
| `auto.MODELS` | the table of networks |
| `auto.build_model`, `auto.load_model` | a network built from options, or read from a folder or the hub |
| `forward.run_ctc` | a batch through any CTC network, the toolkit's own or one of transformers |
| `forward.blank_of`, `forward.frame_ratio` | index of the blank; input frames (or samples) per output frame |
| `streaming.open_stream` | a network that follows a stream, exactly or in windows |
| `bilstm.modeling_bilstm.BiLstmForCTC` | bidirectional LSTM over features of speech or sign |
| `i3d.modeling_i3d.LandmarkI3DForCTC` | streams of landmarks, Inception blocks over time, attention between streams |
| `mobilenet.modeling_mobilenet.LandmarkMobileNetV3ForCTC` | streams of landmarks, MobileNetV3-Small blocks over time |
| `nemo_hybrid.modeling_nemo_hybrid.NemoHybridForASR` | NeMo's Conformer encoder, CTC head, attention decoder |

Of the toolkit's own, all but `nemo_hybrid` share `parts`: bidirectional LSTM, temporal convolutions, classifiers.

A new network is a folder with `configuration_*.py` and `modeling_*.py`, and one line in `auto.MODELS`. transformers
reads a network back by building it on the meta device, and non-persistent buffers come back as uninitialised memory: a
network that has any rebuilds them in its `_init_weights`, which transformers calls for every module after reading the
weights. Importing a network's files must not import NeMo; that happens where one is built.
"""
