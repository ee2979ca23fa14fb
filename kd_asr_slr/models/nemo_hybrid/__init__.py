"""The NeMo hybrid: NeMo's Conformer encoder with a CTC head and an attention decoder.

configuration_nemo_hybrid   NemoHybridConfig
modeling_nemo_hybrid        NemoHybridForASR
decoder                     AttentionDecoder, the Transformer decoder, with `generate`
checkpoint                  encoder weights out of a `.nemo` file or from the hub
nemo_parts                  the quiet, late import of NeMo and what has to be mended in its modules
label_losses                the losses on labels of `forward(labels=...)`
"""
