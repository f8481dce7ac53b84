"""The command line of an lstmconv that has the toy's rows: in the table of formats, and in that of layouts."""

from pathlib import Path

import lstmconv.runtimes
from lstmconv import formats, layouts
from lstmconv.layouts import lstm

FOLDER = str(Path(__file__).parent)
formats.__path__.append(FOLDER)
lstmconv.runtimes.__path__.append(FOLDER)

from lstmconv.formats import toy  # noqa: E402

ROW = formats.Format(
    name="toy",
    suffixes=(".toy",),
    title="Toy",
    module="toy",
    runtime="toy_runtime",
    recognises=toy.recognises,
    biases="one",
)
LAYOUT = lstm.Layout(
    name="Toy",
    gates=toy.ORDER,
    weight_ih="unit feature",
    weight_hh="unit state",
    bias="unit",
    biases="one",
    arrays=("w", "r", "b"),
    source="tests/toy_format",
    bias_names=("b",),
)
formats.FORMATS = (ROW, *formats.FORMATS)
formats.TARGETS = (ROW, *formats.TARGETS)
lstm.LAYOUTS = layouts.LAYOUTS = (*layouts.LAYOUTS, LAYOUT)

from lstmconv.cli import main  # noqa: E402

main()
