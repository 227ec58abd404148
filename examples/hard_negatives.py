"""Hard negatives: for each question, wrong answers that a model takes for nearly right.

    python examples/hard_negatives.py [QUESTIONS]

A retrieval model learns most from wrong answers that it finds near. Here vectors are made up in the
place of what a model says: 20 answers a topic, a question near each of them.
"""

import sys

import numpy as np
from lshjoin import knn_join

count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
rng = np.random.default_rng(0)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


topic = np.arange(count) // 20
topics = rng.standard_normal((topic[-1] + 1, 128), dtype=np.float32)
answers = unit(topics[topic] + rng.standard_normal((count, 128), dtype=np.float32))
questions = unit(answers + 0.05 * rng.standard_normal((count, 128), dtype=np.float32))
right = np.arange(count)  # question 0 is answered by answer 0, and so on

# Any near rows will do, not just the nearest: 0.9 of the true neighbours is enough.
found = knn_join(questions, answers, k=30, metric="cosine", recall=0.9)

# Not the right answer, nor one that is so near that it may be right as well.
similarity = 1 - found.distances
of_right = (questions * answers[right]).sum(axis=1, keepdims=True)
wrong = (found.indices != right[:, None]) & (similarity < 0.95 * of_right)

# The nearest 5 of them: wrong ones first, in their order.
order = np.argsort(~wrong, axis=1, kind="stable")[:, :5]
negatives = np.take_along_axis(found.indices, order, axis=1)
enough = np.take_along_axis(wrong, order, axis=1).all(axis=1)

at_random = rng.integers(0, count, negatives.shape)
print(f"{enough.mean():.1%} of {count:,} questions have 5 hard negatives")
print(f"of the same topic as the question: {(topic[negatives] == topic[:, None]).mean():.1%},"
      f" drawn at random {(topic[at_random] == topic[:, None]).mean():.1%}")  # fmt: skip
print(f"the right answer among them: {(negatives == right[:, None]).any()}")
