"""The version, where it costs no import to know it."""

VERSION = "0.1.0"
