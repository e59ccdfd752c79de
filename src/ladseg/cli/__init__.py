"""The ``ladseg`` command, with one thin function per command that parses, calls and prints."""

from ladseg.cli.entry import main as main
from ladseg.cli.entry import make_parser as make_parser
from ladseg.cli.entry import parse as parse
