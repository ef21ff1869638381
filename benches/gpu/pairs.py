"""Preference pairs of about the lengths of Polis (prompts of some 45 tokens, answers of some 20), to measure
with: words out of a short list, always the same ones. Usage: pairs.py [NUMBER]"""

import json
import random
import sys

WORDS = "the city should build more parks and keep its buses free for all who work late in town".split()

random.seed(7)
for i in range(int(sys.argv[1]) if len(sys.argv) > 1 else 640):
    words = lambda n: " ".join(random.choice(WORDS) for _ in range(n))
    pair = {"user": f"user-{i % 40}", "prompt": words(38), "chosen": words(18), "rejected": words(18)}
    print(json.dumps(pair))
