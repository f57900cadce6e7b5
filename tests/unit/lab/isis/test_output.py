"""Reading what ISIS and ASP print.

The samples in the folder ``output`` were written from memory, after the programs' documentation: nobody recorded them from
a run, since neither ISIS nor ASP could be installed where these tests were made. What real programs print may differ.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from cupola.exceptions import InputError
from cupola.lab.isis import explain, find_problems, read_asp_log, read_values

OUTPUT = Path(__file__).with_name("output")


def said(name):
    return (OUTPUT / name).read_text()


def test_stats_among_its_progress():
    found = read_values(said("stats.txt"))["Results"]
    assert found["Average"] == pytest.approx(141.302, abs=1e-3)
    assert (found["ValidPixels"], found["NullPixels"]) == (1048570, 6)
    assert found["From"] == "/home/maria/mars.cub"


def test_campt_with_units_a_time_and_nothing():
    found = read_values(said("campt.txt"))["GroundPoint"]
    assert found["LocalRadius"] == (3395320.5571431, "meters")
    assert found["BodyFixedCoordinate"] == ([-2493.1406581512, -2285.5148340018, -298.4216113002], "km")
    assert found["Phase"] == 51.87231023
    assert found["UTC"].replace(tzinfo=None) == dt.datetime(2007, 8, 8, 7, 28, 0, 939246)  # noqa: DTZ001
    assert found["Error"] is None


def test_caminfo_has_objects_in_objects():
    found = read_values(said("caminfo.pvl"))["Caminfo"]
    assert found["Polygon"]["SurfaceArea"] == (28.61, "km^2")
    assert found["Polygon"]["GisFootprint"].startswith("MULTIPOLYGON (((222.49 -5.01,")
    assert found["IsisLabel"] == {}


def test_catlab_is_a_cubes_label():
    found = read_values(said("catlab.txt"))
    cube = found["IsisCube"]
    assert cube["Core"]["Dimensions"] == {"Samples": 1024, "Lines": 1024, "Bands": 2}
    assert cube["BandBin"]["Center"] == ([0.65, 0.7], "micrometers")
    assert cube["BandBin"]["FilterName"] == ["BroadBand", "Red"]
    assert cube["Kernels"]["ShapeModel"] is None
    assert [table["Name"] for table in found["Table"]] == ["InstrumentPointing", "SunPosition"]


@pytest.mark.parametrize("text", ["", "MARS_RECONNAISSANCE_ORBITER\n", "100% Processed\n"])
def test_output_without_values_is_said(text):
    with pytest.raises(InputError, match="There is no PVL in this output"):
        read_values(text)


def test_output_that_breaks_off_is_said():
    with pytest.raises(InputError, match="cannot be read, perhaps it breaks off"):
        read_values("Group = Results\n  Average = (1.0, 2.0,\n")


def test_a_stack_of_problems_becomes_one_sentence():
    problems = find_problems(said("cam2map.err"))
    assert [one.kind for one in problems] == ["ERROR", "ERROR", "USER ERROR"]
    assert explain("cam2map", problems) == (
        "cam2map: Unable to initialize camera model in Camera Factory, because: Unable to initialize camera model from "
        "group [Instrument], because: Input file needs to have spiceinit run on it; run spiceinit on the cube first"
    )


def test_a_long_stack_is_told_by_its_ends():
    sentence = explain("campt", find_problems(said("shape.err")))
    assert sentence == (
        "campt: Unable to initialize camera model from group [Instrument], because: Unable to open "
        "[$ISISDATA/base/dems/molaMarsPlanetaryRadius0005.cub]; mount the volume with ISIS data, and see that it has the "
        "data of this mission"
    )


def test_the_form_of_print_files_is_known_too():
    assert explain("spiceinit", find_problems(said("print.err"))).startswith(
        "spiceinit: Unable to initialize camera model; check that spiceinit has run"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("**USER ERROR** Invalid value for parameter [FROM].", "; check the program's parameters"),
        ("**I/O ERROR** Unable to open [no.cub].", "Unable to open [no.cub]; check that the file exists"),
        (
            "**PROGRAMMER ERROR** Angle cannot be a non-Null special pixel.",
            "; ISIS calls this a fault of its own",
        ),
        ("**ERROR** A sentence that goes on\nin the next line.", "A sentence that goes on in the next line"),
        ("Error: **ERROR** Something odd.\nGroup = Accounting\n", "x: Something odd"),
    ],
)
def test_each_kind_shows_the_way_out(text, sentence):
    assert sentence in explain("x", find_problems(text))
    assert "Accounting" not in explain("x", find_problems(text))


def test_warnings_are_no_problems():
    assert find_problems("**WARNING** The file is old.\nall is well") == []


def test_pc_align_before_and_after():
    log = read_asp_log(OUTPUT / "pc_align.log")
    assert log.before.percentiles == {16: 4.21052, 50: 9.87213, 84: 21.3334}
    assert log.after.median == 1.10421
    assert log.displacement == 14.75
    assert log.translations["Cartesian, meters"] == (-12.5, 4.25, 0.71)
    assert log.translations["North-East-Down, meters"] == (3.5, -11.25, 9.75)
    assert log.warnings == ["Input reference and source clouds overlap by less than half."]
    assert log.errors == []


def test_stereo_says_how_far_it_got():
    log = read_asp_log(said("stereo.log"))
    assert log.stages == ["PREPROCESSING", "CORRELATION", "SUBPIXEL REFINEMENT"]
    assert log.warnings == ["Discarding interest points below triangulation tolerance."]
    assert log.errors == ["Could not find the input file run/run-F.tif"]
    assert log.before is None


def test_geodiff_gives_numbers():
    assert read_asp_log(said("geodiff.txt")).differences == {
        "max": 29.4912,
        "min": -31.25,
        "mean": 0.1525,
        "stddev": 2.75,
        "median": 0.125,
    }


def test_a_log_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file or directory"):
        read_asp_log(tmp_path / "no.log")
