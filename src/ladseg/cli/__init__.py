"""The ``ladseg`` command: one thin function a command: parse, call, print."""

from ladseg.cli.entry import main as main
from ladseg.cli.entry import make_parser as make_parser
from ladseg.cli.entry import parse as parse
