"""Event files, which TensorBoard shows as curves: records of protocol buffers, each with its sums.

Each record is written by one call of the system. So a file ends with a whole record, whenever the
training is broken off or killed. Source of the format: TensorFlow, "TFRecord and tf.train.Example".
"""

import struct
import time
from pathlib import Path
from platform import node

from .extras import need

__all__ = ["EventFile"]


class EventFile:
    """A new file in a folder, for what comes after `step` steps. TensorBoard then forgets what other
    files in the folder tell of later steps: they are of a training that was broken off.
    """

    def __init__(self, folder, step):
        self._event = need("TensorBoard", "tensorboardX.proto.event_pb2", "tensorboard")
        self._summary = need("TensorBoard", "tensorboardX.proto.summary_pb2", "tensorboard").Summary
        name = f"events.out.tfevents.{int(time.time()):010}.{node()}.{step:09}"  # they sort by age
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._file = open(Path(folder, name), "ab", buffering=0)  # noqa: SIM115
        self._write(0, file_version="brain.Event:2")
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        self._write(step + 1, session_log=start)

    def write(self, step, numbers):
        """Add numbers of a step, {name: number}."""
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._write(step, summary=self._summary(value=values))

    def close(self):
        """Close the file; all of it is written already."""
        self._file.close()

    def _write(self, step, **content):
        event = self._event.Event(wall_time=time.time(), step=step, **content)
        self._file.write(_record(event.SerializeToString()))


def _record(data):
    """The data between their length and their sum; the length has a sum of its own."""
    length = struct.pack("<Q", len(data))
    return b"".join([length, _sum(length), data, _sum(data)])


def _sum(data):
    from tensorboardX.record_writer import masked_crc32c

    return struct.pack("<I", masked_crc32c(data))
