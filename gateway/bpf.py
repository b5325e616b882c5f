"""Classic BPF programs on UDP sockets: the few instructions that sieves are made of.

A program (SO_ATTACH_FILTER, socket(7); needs no privilege) sees each datagram from its UDP
header on, and returns how much of it to keep: all, or nothing. It may also look at the IP
header, at `NETWORK` and behind.
"""

from __future__ import annotations

import ctypes
import socket
import struct

SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27
MAX_INSTRUCTIONS = 4096

# linux/filter.h
_LOAD_BYTE, _LOAD_WORD = 0x30, 0x20
_JUMP, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x05, 0x15, 0x45, 0x06
UDP_HEADER = 8
"""The first byte of what was sent."""
NETWORK = 0xFFF00000
"""SKF_NET_OFF: the IP header."""
_RANDOM = 0xFFFFF000 + 56
"""SKF_AD_OFF + SKF_AD_RANDOM: a random word in the place of the packet's."""
_ALL = 0xFFFFFFFF

_instruction = struct.Struct("=HBBI").pack
Instruction = tuple[int, int, int, int]
"""code, offset if true, offset if not, operand."""
Program = list[Instruction]

ACCEPT: Instruction = (_RETURN, 0, 0, _ALL)
DROP: Instruction = (_RETURN, 0, 0, 0)
BY_CHANCE: Instruction = (_LOAD_WORD, 0, 0, _RANDOM)
"""Load a random word."""


def load_byte(at: int) -> Instruction:
    return (_LOAD_BYTE, 0, 0, at)


def load_word(at: int) -> Instruction:
    """Big-endian."""
    return (_LOAD_WORD, 0, 0, at)


def if_equal(value: int, yes: int, no: int) -> Instruction:
    """Skip so many instructions if what was loaded is `value`, or is not: 255 at most."""
    return (_JUMP_EQUAL, yes, no, value)


def if_any_bit(mask: int, yes: int, no: int) -> Instruction:
    return (_JUMP_ANY_BIT, yes, no, mask)


def jump(over: int) -> Instruction:
    """Skip so many instructions."""
    return (_JUMP, 0, 0, over)


def swapped(word: int) -> int:
    """As `load_word` sees a word that is little-endian on the wire."""
    return int.from_bytes(word.to_bytes(4, "little"), "big")


def attach(sock: socket.socket, program: Program) -> None:
    """In the place of any before it. Raises OSError where that is not allowed."""
    wire = b"".join(_instruction(*each) for each in program)
    held = ctypes.create_string_buffer(wire, len(wire))
    described = struct.pack("@HP", len(wire) // 8, ctypes.addressof(held))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, described)


def detach(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
