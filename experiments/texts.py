"""What the studies of texts share: windows drawn at random, an equal time, columns and samples."""

import functools
import math
import time

from handgrad import Solver
from handgrad.callbacks import Callback
from handgrad.data_utils import load_shakespeare
from handgrad.optim import cosine, linear_warmup

from .study import Column

LOSS = Column("validation loss", lambda run: run["kept"]["loss"], ".3f")
BITS = Column("bits a character", lambda run: run["kept"]["loss"] / math.log(2), ".3f")
PARAMETERS = Column("parameters", lambda run: run["kept"]["parameters"], ",.0f")
STEPS = Column("steps", lambda run: len(run["loss_history"]), ",.0f")


class Windows(Solver):
    """Each batch is drawn anew from all windows of the text, and so many steps count as an epoch."""

    iterations_per_epoch = None  # a plain attribute instead of the property

    def __init__(self, *args, steps_an_epoch, **options):
        self.iterations_per_epoch = steps_an_epoch
        super().__init__(*args, sampling="replacement", **options)


class Clock(Callback):
    """Ends a training that has used so many seconds of the processor, and is its schedule: up over the
    first 50 steps, then along a cosine of the time down to a tenth.

    Measuring does not count, nor does the first step, after which much is measured. The seconds used
    stand in solver.history, from which a resumed training goes on.
    """

    def __init__(self, seconds):
        self.seconds, self.used, self.since = seconds, 0.0, 0.0

    def __call__(self, step, epoch):
        return min(1.0, (step + 1) / 50) * cosine(self.used, epoch, steps=self.seconds, floor=0.1)

    def on_train_begin(self, solver):
        self.used = solver.history[-1]["used"] if solver.history else 0.0
        self.since = time.process_time()

    def on_step_end(self, solver):
        now = time.process_time()
        if solver.iteration > 1:
            self.used += now - self.since
        self.since = now
        if self.used >= self.seconds:
            solver.iterations_per_epoch = solver.step_in_epoch  # what is there now is measured
            solver.stop_training = True

    def on_epoch_end(self, solver):
        solver.history[-1]["used"] = self.used
        self.since = time.process_time()


@functools.cache
def shakespeare(context):
    """All windows of Tiny Shakespeare, one at each character."""
    return load_shakespeare(context, stride=1)


def warmed_cosine(warmup, steps):
    """A schedule: up over the first steps, then along a cosine down to a tenth."""
    then = functools.partial(cosine, steps=steps, floor=0.1)
    return functools.partial(linear_warmup, steps=warmup, then=then)


def adamw(learning_rate):
    """AdamW as nanoGPT has it: the Solver's arguments."""
    config = dict(learning_rate=learning_rate, beta2=0.99, weight_decay=0.1, least_ndim=2)
    return dict(update_rule="adamw", optim_config=config, clip_norm=1.0)


def solver(seed, model, learning_rate, context, num_validation=None, **options):
    """A Solver of model(vocab_size, seed=seed) on windows of Shakespeare; options: the Solver's.

    While it trains, validation is measured on 200 windows, drawn anew each time.
    num_validation: windows to validate on (None: all).
    """
    data = dict(shakespeare(context))
    data |= {key: data[key][:num_validation] for key in ("X_val", "y_val")}
    looks = dict(num_train_samples=20, num_val_samples=200, verbose=False)
    net = model(len(data["vocabulary"]), seed=seed)
    return Windows(net, data, **adamw(learning_rate), **looks, **options, seed=seed)


def parameters(solver):
    return sum(p.size for p in solver.model.params.values())


def kept(solver):
    """The size, the loss on the whole validation text, and how the play goes on."""
    characters = solver.data["vocabulary"]
    solver.check_accuracy(solver.X_val, solver.y_val)
    words = solver.model.generate(characters.encode("ROMEO:\n"), 200, temperature=0.8, seed=0)
    text = "ROMEO:\n" + characters.decode(words)
    return {"parameters": parameters(solver), "loss": solver.measured["nats"], "text": text}


def samples(result):
    """What the first run of each setting writes."""
    texts = {name: run["kept"]["text"] for (name, seed), run in result.runs.items() if seed == 0}
    return "\n\n".join(f"{name}:\n\n```text\n{text}\n```" for name, text in texts.items())
