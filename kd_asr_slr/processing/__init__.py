"""From media to batches: features, labels, augmentation, datasets; everything a recogniser needs beside its weights.

| module | what it holds |
|---|---|
| `auto` | `load_processor`; importing it registers the processors with transformers' Auto classes |
| `tokenization` | `LabelTokenizer`, `fingerprint_of`, `token_list` |
| `pieces`, `piece_training` | `PieceTokenizer`: pieces of words, trained on the texts or given |
| `speech`, `sign` | `SpeechProcessor`, `SignProcessor` and their feature extractors |
| `layouts`, `face_mesh` | which points a frame holds; subsets of 79 and 118 points; who mirrors whom |
| `landmarks` | missing points, gaps, normalisation, differences |
| `sign_settings`, `sign_columns` | what goes together; the columns of landmark features and their streams |
| `projection`, `standardisation` | statistics of the training split: mean, deviation, principal components |
| `foreign` | `wrap_processor` for processors of transformers itself |
| `augmentation`, `augmentation_sign` | the table of augmentations, `build_augmentation`, `check_for_cache` |
| `augmentation_speech`, `speech_effects` | augmentations of waveforms; stretching, pitch shifting, formant warping |
| `feasibility` | `infeasible_ctc`: utterances too short for their labels |
| `dataset`, `collator` | `RecogniserDataset`, `Collator` |

Nothing is imported here, so `import kd_asr_slr.processing` costs nothing.
"""
