"""From media to batches: features, labels, augmentation, datasets; everything a recogniser needs beside its weights.

| module | what it holds |
|---|---|
| `auto` | `load_processor`; importing it registers the processors with transformers' Auto classes |
| `tokenization` | `LabelTokenizer`, `fingerprint_of`, `token_list` |
| `speech`, `sign` | `SpeechProcessor`, `SignProcessor` and their feature extractors |
| `landmarks` | MediaPipe layouts, point subsets, normalisation, differences |
| `foreign` | `wrap_processor` for processors of transformers itself |
| `augmentation` | the table of augmentations, `build_augmentation`, `check_for_cache` |
| `feasibility` | `infeasible_ctc`: utterances too short for their labels |
| `dataset`, `collator` | `RecogniserDataset`, `Collator` |

Nothing is imported here, so `import kd_asr_slr.processing` costs nothing.
"""
