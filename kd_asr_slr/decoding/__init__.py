"""From frame scores to label sequences: numpy in, hypotheses out, no torch in the search.

| module | what it does |
|---|---|
| `greedy` | best path: collapse repeats, drop blanks |
| `prefix_beam` | plain CTC prefix beam search over any token set, without a language model |
| `closed` | the CTC probability of every sequence of a closed list, in one pass |
| `beam` | beam search with a KenLM n-gram when there is one; `beam_options` says how it weighs and prunes |
| `candidates` | the few tokens of each frame that the search looks at, found in numpy |
| `word_search`, `text_search` | the search over whole words, and pyctcdecode's over characters and pieces |
| `pool` | searches in several processes |
| `ngram_scorer` | the n-gram's part in that search, and how much of the vocabulary it covers |
| `grid` | the same search under many weights |
| `ngram_estimation` | an n-gram model from sentences: interpolated modified Kneser-Ney |
| `arpa` | such a model in memory, and its ARPA file |
| `perplexity` | how well a language model foresees sentences |
| `log_probs` | the check that what arrives are log-probabilities |
"""
