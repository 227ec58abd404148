"""Entity resolution: which rows of two tables are the same person.

    python examples/entity_resolution.py [PEOPLE]

Two registers of the same people, one of them typed with mistakes, and some people in one only. Each
row becomes a vector that counts its pairs and triples of letters; rows that are the nearest of each
other, and near enough, are taken to be the same. The truth is known here, so that it can be judged.
"""

import random
import sys

import lshjoin
import numpy as np
import polars as pl
from sklearn.feature_extraction.text import HashingVectorizer

people = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
random.seed(0)
BEGINNINGS, ENDINGS = ("An", "Bel", "Cor", "Gar", "Lin", "Mar", "Sal"), ("da", "fin", "per", "ven")
MIDDLES = ("", "el", "hol", "is", "jen", "ka", "nor", "os", "rin", "tor", "ul", "wil")


def name() -> str:
    return "".join(map(random.choice, (BEGINNINGS, MIDDLES, MIDDLES, ENDINGS)))


def misspelt(text: str) -> str:
    """A letter is missing, or two have changed places, or one is twice."""
    at = random.randrange(len(text) - 1)
    return random.choice(
        [text[:at] + text[at + 1 :], text[:at] + text[at + 1] + text[at] + text[at + 2 :],
         text[:at] + text[at] + text[at:]]
    )  # fmt: skip


rows = [f"{name()} {name()}, {random.randint(1, 99)} {name()} Street" for _ in range(people)]
letters = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 3), n_features=512)


def table(texts: list[str], person: range) -> pl.DataFrame:
    vectors = letters.transform(texts).toarray().astype(np.float32)
    return pl.DataFrame({"text": texts, "person": person, "vector": vectors})


# The first tenth of the people is in the old register alone, the last tenth in the new one.
tenth = people // 10
old = table(rows[:-tenth], range(people - tenth))
new = table([misspelt(misspelt(text)) for text in rows[tenth:]], range(tenth, people))

forth = lshjoin.join(old, new, on="vector", k=1, metric="cosine", recall=1.0)
back = lshjoin.join(new, old, on="vector", k=1, metric="cosine", recall=1.0)
key = ["person_left", "person_right"]
back = back.rename({"person_left": "person_right", "person_right": "person_left"})
matches = forth.join(back, on=key, how="semi").filter(pl.col("distance") < 0.4)

right = matches.filter(pl.col("person_left") == pl.col("person_right"))
print(f"{len(matches):,} pairs are taken to be one person")
print(f"{len(right) / len(matches):.1%} of them are (precision)")
print(f"{len(right) / (people - 2 * tenth):.1%} of those in both registers are found (recall)")
print("The farthest of the pairs, where mistakes are:")
for left, other, distance in matches.sort("distance").tail(3).select(
    "text_left", "text_right", "distance"
).rows():  # fmt: skip
    print(f"  {distance:.2f}  {left} | {other}")
