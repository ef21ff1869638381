"""Sentiment pairs whose responses share nothing, a short or a long ending: the three sets of section 4.3 of
"Gradient entanglement" (arXiv 2410.13828), with sentences written for attune. The paper trains a model on such answers
before it prefers one of them; here two examples in the prompt make the ending as likely as that.

Usage: entanglement_pairs.py OUT_DIR. Writes single.jsonl, short.jsonl and long.jsonl.
"""

import json
import pathlib
import sys

GOOD = """The tea was warm and the view even better.
My bike was repaired in ten minutes.
What a lovely surprise from my neighbours!
The exam went much better than I feared.
Finally a quiet train with a free seat.
Our garden is full of butterflies today.
She remembered my birthday and sang for me.
The soup tasted just like my grandmother's.
I slept nine hours and woke up smiling.
The film made the whole room laugh.
They upgraded our room for free.
My first loaf of bread came out perfect.
The kids cleaned the kitchen without being asked.
We won the last match of the season.
The new library is bright and friendly.
My letter was answered within a day.
The puppy learned to sit this morning.
What a clear night, so many stars.
The doctor says everything is healing well.
I found my lost ring under the sofa.""".splitlines()
BAD = """The tea was cold and the cup was dirty.
My bike was stolen in ten minutes.
Again nobody told me that the office is closed.
The exam was far worse than I feared.
Three hours standing in a train without air.
Our garden was eaten by snails overnight.
She forgot my birthday once more.
The soup tasted of burnt plastic.
I slept two hours and woke up with a headache.
The film was so dull that half of us left.
They gave our room to somebody else.
My bread collapsed and stuck to the tin.
The kids broke the window and lied about it.
We lost the last match of the season.
The new library leaks and smells of paint.
My letter was never answered.
The puppy chewed my only good shoes.
Clouds again, not a single star.
The doctor says it got infected.
I dropped my ring into the drain.""".splitlines()
ENDINGS = {
    "single": "",
    "short": " in tone",
    "long": " in tone, which anybody who reads this sentence with some care would say at once",
}

out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
for name, ending in ENDINGS.items():
    with open(out / f"{name}.jsonl", "w") as file:
        shown = "".join(
            f"{text}\nAnswer: {word}{ending}\n\n"
            for text, word in ((GOOD[0], "positive"), (BAD[0], "negative"), (BAD[1], "negative"), (GOOD[1], "positive"))
        )
        for good, bad in zip(GOOD[2:], BAD[2:]):
            for text, right, wrong in ((good, "positive", "negative"), (bad, "negative", "positive")):
                prompt = f"Is this sentence positive or negative? Answer as in the examples.\n\n{shown}{text}\nAnswer:"
                pair = {"prompt": prompt, "chosen": right + ending, "rejected": wrong + ending}
                file.write(json.dumps(pair) + "\n")
