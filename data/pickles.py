"""Reading pickles that hold numbers and text, without running anything that they ask for.

A pickle is a program for a machine with a stack. `BININT1 6` pushes the number 6, `APPENDS` moves
what was pushed into a list, `REDUCE` calls a function. Python's own machine calls every function that
the file names, and so the author of a pickle can take over the program that reads it.

The machine in this module knows only the instructions that arrays, lists and dicts are made with
(protocols 2 to 4). It calls no function. `numpy.ndarray` and `numpy.dtype` are names to it that stand
for two classes below: they note what an array should be, and the array is made only if its size and
its kind of number are right. Lengths are compared with what the file holds before memory is taken.
"""

import enum
import math
import pickle

import numpy as np

from .files import LimitedFile

__all__ = ["load_pickle"]

LARGEST_PICKLE = 2**25  # bytes; CIFAR-10's largest file has 31,035,999
MOST_INSTRUCTIONS = 200_000  # CIFAR-10's files have 30,098
NUMBERS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")


def load_pickle(file, name):
    """A pickle of one dict, such as a CIFAR-10 batch; arrays of numbers in it become NumPy arrays.

    file: an open binary file of at most 33,554,432 bytes.  name: what error messages call it.
    Raises ValueError if the pickle is damaged or asks for anything but dicts with text as keys, lists,
    tuples, text, bytes, whole numbers and arrays of numbers.
    """
    try:
        content = _Machine(LimitedFile(file, LARGEST_PICKLE).read()).run()
    except ValueError as error:
        raise ValueError(f"{name}: not a CIFAR-10 batch ({error}).") from error
    if type(content) is not dict:
        raise ValueError(f"{name}: holds a {type(content).__name__}, expected a dict.")
    return {key: v.array if isinstance(v, _Array) else v for key, v in content.items()}


class _Name(enum.Enum):
    """The names that a pickle may speak of; none of them is a function here."""

    RECONSTRUCT = enum.auto()
    NDARRAY = enum.auto()
    DTYPE = enum.auto()
    MARK = enum.auto()  # where a list of operands begins on the stack


NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy", "ndarray"): _Name.NDARRAY,
    ("numpy", "dtype"): _Name.DTYPE,
}


class _Dtype:
    """A kind of number: letters such as u1, and the byte order, which comes later."""

    def __init__(self, letters):
        if letters not in NUMBERS:
            raise ValueError(f"it has an array of {letters!r:.20}, which is no plain kind of number")
        self.letters, self.order = letters, "|"

    def set_state(self, state, _):
        match state:
            case (3, "<" | ">" | "|" as order, None, None, None, *_):
                self.order = order
            case _:
                raise ValueError("it has a kind of number in an unknown form")

    def numpy(self):
        return np.dtype(self.order + self.letters)


class _Array:
    """An array: empty until its shape, its kind of number and its bytes come."""

    array = None

    def set_state(self, state, machine):
        match state:
            case (1, tuple() as shape, _Dtype() as dtype, bool() as fortran, str() | bytes() as raw):
                self.array = self._checked(shape, dtype.numpy(), fortran, raw, machine)
            case _:
                raise ValueError("it has an array in an unknown form")

    @staticmethod
    def _checked(shape, dtype, fortran, raw, machine):
        if len(shape) > 8 or not all(type(n) is int and 0 <= n <= LARGEST_PICKLE for n in shape):
            raise ValueError("it has an array of an impossible shape")
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise ValueError(f"it has an array of shape {shape} and type {dtype} in {len(raw)} bytes")
        machine.take(len(raw))
        raw = raw if isinstance(raw, bytes) else raw.encode("latin1")  # text: written by Python 2
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


class _Machine:
    """The stack, the memo (objects by number, to be used again) and the place in the pickle."""

    def __init__(self, raw):
        self.raw, self.at = raw, 0
        self.stack, self.memo = [], {}
        self.room = len(raw)  # bytes that arrays may take in total

    def run(self):
        """Carry the instructions out up to STOP; the object that is on top of the stack then."""
        for _ in range(MOST_INSTRUCTIONS):
            code = self.bytes(1)
            if code == pickle.STOP:
                return self.pop()
            if code not in INSTRUCTIONS:
                raise ValueError(f"its instruction {code!r} is not admitted")
            INSTRUCTIONS[code](self)
        raise ValueError(f"it has more than {MOST_INSTRUCTIONS:,} instructions")

    def take(self, size):
        """Count the bytes of an array: together they cannot be more than the pickle has."""
        self.room -= size
        if self.room < 0:
            raise ValueError("its arrays hold more than the file")

    # Operands: what stands in the pickle, and what was pushed since the last mark.

    def bytes(self, size):
        start, self.at = self.at, self.at + size
        if self.at > len(self.raw):
            raise ValueError("it is cut short")
        return self.raw[start : self.at]

    def number(self, size, signed=False):
        return int.from_bytes(self.bytes(size), "little", signed=signed)

    def counted(self, size):
        """As many bytes as the number before them says, which has `size` bytes itself."""
        return self.bytes(self.number(size))

    def line(self):
        end = self.raw.index(b"\n", self.at)
        return self.bytes(end + 1 - self.at)[:-1].decode("ascii")

    def since_mark(self):
        values = []
        while (value := self.pop()) is not _Name.MARK:
            values.append(value)
        return values[::-1]

    def pop(self):
        if not self.stack:
            raise ValueError("its stack is empty")
        return self.stack.pop()

    def top(self, *kinds):
        """The object on top of the stack, which must be of one of the kinds; it stays there."""
        if not self.stack or type(self.stack[-1]) not in kinds:
            raise ValueError("it fills something that cannot be filled")
        return self.stack[-1]

    # Instructions with more than one step.

    def name(self, module, name):
        if not (type(module) is type(name) is str and (module, name) in NAMES):
            raise ValueError(f"it asks for {module}.{name}, which is not admitted")
        self.stack.append(NAMES[module, name])

    def stack_global(self):
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def collect(self, count):
        """The last `count` objects as one tuple."""
        if count > len(self.stack):
            raise ValueError("its stack is empty")
        start = len(self.stack) - count
        self.stack[start:] = [tuple(self.stack[start:])]

    def reduce(self):
        arguments, function = self.pop(), self.pop()
        match function, arguments:
            case _Name.RECONSTRUCT, (_Name.NDARRAY, *_):
                self.stack.append(_Array())
            case _Name.DTYPE, (str() as letters, *_):
                self.stack.append(_Dtype(letters))
            case _:
                raise ValueError("it calls something, which is not admitted")

    def build(self):
        state = self.pop()
        self.top(_Array, _Dtype).set_state(state, self)

    def set_items(self, items):
        if not all(type(key) is str for key in items[::2]):
            raise ValueError("it has a dict whose keys are not text")
        self.top(dict).update(zip(items[::2], items[1::2], strict=True))

    def append_items(self, items):
        self.top(list).extend(items)

    def remember(self, number):
        if not self.stack:
            raise ValueError("its stack is empty")
        self.memo[number] = self.stack[-1]

    def recall(self, number):
        if number not in self.memo:
            raise ValueError("it uses an object that it has not made")
        self.stack.append(self.memo[number])


def _pushing(value):
    """An instruction that pushes what the function `value` of the machine gives."""
    return lambda m: m.stack.append(value(m))


INSTRUCTIONS = {
    pickle.PROTO: lambda m: m.bytes(1),
    pickle.FRAME: lambda m: m.bytes(8),
    pickle.MARK: _pushing(lambda m: _Name.MARK),
    # Numbers.
    pickle.NONE: _pushing(lambda m: None),
    pickle.NEWTRUE: _pushing(lambda m: True),
    pickle.NEWFALSE: _pushing(lambda m: False),
    pickle.BININT1: _pushing(lambda m: m.number(1)),
    pickle.BININT2: _pushing(lambda m: m.number(2)),
    pickle.BININT: _pushing(lambda m: m.number(4, signed=True)),
    pickle.LONG1: _pushing(lambda m: int.from_bytes(m.counted(1), "little", signed=True)),
    # Text of Python 2, text, bytes.
    pickle.SHORT_BINSTRING: _pushing(lambda m: m.counted(1).decode("latin1")),
    pickle.BINSTRING: _pushing(lambda m: m.counted(4).decode("latin1")),
    pickle.SHORT_BINUNICODE: _pushing(lambda m: m.counted(1).decode()),
    pickle.BINUNICODE: _pushing(lambda m: m.counted(4).decode()),
    pickle.SHORT_BINBYTES: _pushing(lambda m: m.counted(1)),
    pickle.BINBYTES: _pushing(lambda m: m.counted(4)),
    # Tuples, lists, dicts.
    pickle.EMPTY_TUPLE: lambda m: m.collect(0),
    pickle.TUPLE1: lambda m: m.collect(1),
    pickle.TUPLE2: lambda m: m.collect(2),
    pickle.TUPLE3: lambda m: m.collect(3),
    pickle.TUPLE: _pushing(lambda m: tuple(m.since_mark())),
    pickle.EMPTY_LIST: _pushing(lambda m: []),
    pickle.APPEND: lambda m: m.append_items([m.pop()]),
    pickle.APPENDS: lambda m: m.append_items(m.since_mark()),
    pickle.EMPTY_DICT: _pushing(lambda m: {}),
    pickle.SETITEM: lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    pickle.SETITEMS: lambda m: m.set_items(m.since_mark()),
    # The memo.
    pickle.BINPUT: lambda m: m.remember(m.number(1)),
    pickle.LONG_BINPUT: lambda m: m.remember(m.number(4)),
    pickle.MEMOIZE: lambda m: m.remember(len(m.memo)),
    pickle.BINGET: lambda m: m.recall(m.number(1)),
    pickle.LONG_BINGET: lambda m: m.recall(m.number(4)),
    # Arrays.
    pickle.GLOBAL: lambda m: m.name(m.line(), m.line()),
    pickle.STACK_GLOBAL: lambda m: m.stack_global(),
    pickle.REDUCE: lambda m: m.reduce(),
    pickle.BUILD: lambda m: m.build(),
}
