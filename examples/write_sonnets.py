"""A small GPT learns sonnets, character by character, and goes on with a line."""

import sys

from handgrad import Solver
from handgrad.data_utils import load_text
from handgrad.models import GPT

data = load_text(length=64, stride=4)  # the sonnets that come with handgrad; or load_text("my.txt")
vocabulary = data["vocabulary"]
model = GPT(len(vocabulary), context=64, width=64, depth=2, heads=4, dropout=0.1, seed=0)
print(model)
solver = Solver(
    model,
    data,
    update_rule="adamw",
    optim_config={"learning_rate": 3e-3, "weight_decay": 0.1, "least_ndim": 2},
    clip_norm=1.0,
    num_epochs=5,
    batch_size=16,
    num_train_samples=100,
    print_every=0,
    seed=0,
)
solver.train()
for word in model.words(vocabulary.encode("Shall I "), 300, temperature=0.8, seed=0):
    sys.stdout.write(vocabulary.characters[word])
    sys.stdout.flush()
print()
