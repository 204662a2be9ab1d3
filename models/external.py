"""Whether an ONNX graph keeps data in other files: ONNX Runtime would read whatever file the graph names.

Protobuf's wire format is walked, message in message, as far as tensors can be: the package onnx is no part of a worker.
Field numbers: onnx.proto.
"""

from collections.abc import Iterator
from typing import Final

#: Of each message that holds tensors somewhere: its fields that are such messages.
FIELDS: Final = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
#: Of a tensor: where its data lie (the name of a file, ...), and that they lie elsewhere.
EXTERNAL_DATA, DATA_LOCATION = 13, 14
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEPTH_MAX: Final = 100


def has_external_data(graph: bytes) -> bool:
    """Whether any tensor of a serialised model says that its data are in another file.

    Raises:
        ValueError: these bytes are no such message.
    """
    return _has(memoryview(graph), "model", 0)


def _has(message: memoryview, kind: str, depth: int) -> bool:
    if depth > DEPTH_MAX:
        raise ValueError(f"graphs in graphs, more than {DEPTH_MAX} deep")
    inner = FIELDS[kind]
    for number, content in _fields(message):
        if kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and content == 1)):
            return True
        if isinstance(content, memoryview) and number in inner and _has(content, inner[number], depth + 1):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and content of each field, in order."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == VARINT:
            content, at = _varint(message, at)
            yield tag >> 3, content
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(wire)
        if wire == BYTES:
            size, at = _varint(message, at)
        if size is None or at + size > len(message):
            raise ValueError("a field that is cut short or of no known kind")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number that is cut short")
