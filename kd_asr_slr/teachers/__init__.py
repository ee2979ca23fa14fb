"""Teachers and what they say of a batch: every source gives one type, `outputs.TeacherSignal`.

aggregation   which teacher speaks for which utterance, and the streaming mean over teachers
frozen        one network that only listens: evaluation mode, no gradients, its own features
pool          several live teachers behind one `signal(batch)`
cached        the same `signal(batch)`, read from a store of soft targets
store         the store: shards, resuming, checksums; `manifest` says what it was made from, `index` finds an id
cache         writes the signals of a pool into a store
diagnosis     what teachers agree on, before the first training step
"""
