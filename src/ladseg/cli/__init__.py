"""The ``ladseg`` command, with one thin function per command that parses, calls and prints."""

from ladseg.cli.start import main as main
