"""Tasks that SmolLM2-135M-Instruct cannot do and could: a person's name and the two digits of an age as a JSON object.

Usage: expo_tasks.py OUT_DIR. Writes train.jsonl (240 tasks) and held.jsonl (60 tasks about other people).
"""

import json
import pathlib
import random
import sys

NAMES = """Ann Ben Cleo Dan Eva Finn Gus Hana Ivo Jane Kim Leo Mia Nils Olga Pia Raul Sara Tom Uma Vera Will Xena Yara Zoe
Alma Boris Carla Dirk Edna""".split()
CITIES = "Oslo Rome Lima Cairo Paris Delhi Tokyo Quito Bern Riga Dakar Hanoi Seoul Lagos Berlin Madrid".split()


def task(name: str, age: int, city: str) -> dict:
    answer = json.dumps({"who": name, "tens": age // 10, "ones": age % 10})
    return {
        "question": f"{name} is {age} years old and lives in {city}. Give a JSON object with the keys who (the name), tens "
        "and ones (the two digits of the age).",
        "answer": answer,
        "verifier": "json",
        "solution": f"The name is {name}. The age is {age}, so tens is {age // 10} and ones is {age % 10}.\n{answer}",
    }


out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
for file, names, number in (("train.jsonl", NAMES[:24], 240), ("held.jsonl", NAMES[24:], 60)):
    draw = random.Random(file)
    people = [(draw.choice(names), draw.randint(19, 98), draw.choice(CITIES)) for _ in range(number)]
    with open(out / file, "w") as lines:
        lines.writelines(json.dumps(task(*person)) + "\n" for person in people)
