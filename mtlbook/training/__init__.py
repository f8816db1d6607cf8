"""Training: the replicas of all seeds learn at once, in one readable loop.

In the order in which a newcomer may read them: `settings` (what can be chosen), `fit` (how it is
called), `loop` (the steps, one after another), and what it calls: `sampling` (which rows each step
learns from), `pool`, `minibatches` and `feed` (how they are gathered), `replicas` (all models in
one call), `objective` (the losses), `gradients` (combined over tasks), `optimisers`, `stopping`,
`evaluation` and `results`; `selection` chooses among trials.
"""
