"""Delimiters, comments, encodings, names and saved indices are recognised from the first lines."""

import pytest

from drl_density.datasets import ReadOptions
from drl_density.datasets.tables.text.dialect import cells_of, find_encoding, is_comment, recognise
from drl_density.errors import DataError, DataWarning


def found(text, **options):
    return recognise(text.split("\n"), ReadOptions(**options), where="t.csv")


DELIMITERS = {
    "comma": ("a,b\n1,2\n3,4", ","),
    "semicolon with decimal commas": ("a;b\n1,5;2,5\n3,5;4,5", ";"),
    "semicolon, no header": ("1,5;2,5\n3,5;4,5", ";"),
    "tab": ("a\tb\n1\t2", "\t"),
    "bar": ("a|b\n1|2", "|"),
    "spaces": ("a   b\n 1  2\n-3   4", "whitespace"),
    "spaces after commas": ("a, b, c\n1, 2, 3", ","),
    "texts with spaces": ("name,b\nNew York,1\nSan Jose,2", ","),
    "quoted": ('"a;x";"b;y"\n1;2\n3;4', ";"),
    "Excel": ("sep=;\na;b\n1;2", ";"),
    "names with spaces and numbers": ("size 1,size 2\nvery small,quite large\nless small,less large", ","),
    "tabs in quoted cells": ('q,a b\n"a\tb","c\td"\n"a\tb","a\tb"', ","),
    "spaces behind quotes": ('"a" , "b"\n"x" , 1\n"y" , 2', ","),
    "one column": ("a\n1\n2", ","),
}


@pytest.mark.parametrize("name", DELIMITERS)
def test_delimiters(name):
    text, delimiter = DELIMITERS[name]
    assert found(text).delimiter == delimiter


def test_a_file_that_promises_tabs():
    assert recognise(["a,x\tb,y", "1,5\t2,5"], ReadOptions(), where="", is_tabs=True).delimiter == "\t"
    assert found("a b;c\n1 2;3", delimiter="whitespace").names == ("a", "b;c")


def test_known_names_tell_the_delimiter():
    text = "a;b,c\n1;2,3\n4;5,6"
    assert found(text).delimiter == ";"
    assert recognise(text.split("\n"), ReadOptions(), where="", known=("c",)).names == ("a;b", "c")


def test_a_comment_above_a_header_does_not_name_the_columns():
    assert found("# by Hans, Berlin\na,b\n1,2\n3,5").names == ("a", "b")
    assert found("# by Hans, Berlin\nq,r\nred,x\nblue,y\nred,y").names == ("q", "r")
    assert found("# q,r\nred,x\nblue,y\nred,y").names == ("q", "r")
    assert found("# q,r\nred,True\nblue,False").names == ("q", "r")
    # R and pandas leave the name of the row names out; three words above are no names then.
    rows_of_r = "% by Hans, Berlin\nheight width\n0 7 0.25\n1 -5 NA\n2 3 1.5"
    with pytest.warns(DataWarning, match="saved index"):
        assert found(rows_of_r).names[1:] == ("height", "width")
    with pytest.warns(DataWarning, match="saved index"):
        assert found("# on,by,at\n,a,b\n0,7,red\n1,5,blue").names[1:] == ("a", "b")
    assert found("# id,city,state\n,Berlin,open\n7,Paris,shut\n9,Rome,shut").names == ("id", "city", "state")


def test_comments_at_the_top_and_names_within_them():
    made = found("# by hand\n\n% in 2024\na,b\n1,2")
    assert (made.names, made.num_skipped, made.comments) == (("a", "b"), 4, "#%")
    assert found("# x,y\n1,2\n3,5").names == ("x", "y")
    assert found("# x,y\n1,2\n3,5", header="none").names == ("x0", "x1")
    assert found("#a,b\n1,2\n3,5", comment="").names == ("#a", "b")
    assert found("color,b\n#ff,1\n#0f,2").comments == ""
    assert found("#ff,1\n#0f,2\n#ff,3", header="none").num_skipped == 0
    assert [is_comment(line, "#%") for line in ("#x", "%x", "#N/A,1", "x#")] == [True, True, False, False]


def test_saved_indices():
    for text in (
        ",a\n0,1.5\n1,2.5",
        ",a\n5,1.5\n9,2.5",
        '"a"\n"1" 1.5\n"2" 2.5',
        "Unnamed: 0,a\n0,1.5\n1,2.5",
        ",a\nu,1.5\nv,2.5",
    ):
        with pytest.warns(DataWarning, match="saved index.*--index keep"):
            assert found(text).index == 0
    assert found("index,a\n3,1.5\n1,2.5").index is None
    assert found("id,a\n0,1.5\n1,2.5").index is None
    assert found("id,a\n0,1.5\n1,2.5", index="drop").index == 0
    with pytest.warns(DataWarning, match="column 1 has no name; it is called x0"):
        assert found(",a\n0.5,1.5\n0.5,2.5").index is None
    with pytest.warns(DataWarning, match="column 1 has no name"):
        assert found(",a\n0,1.5\n1,2.5", index="keep").names == ("x0", "a")


def test_names():
    with pytest.raises(DataError, match="columns named twice: a; .*--header none"):
        found("a,a\n1,2")
    with pytest.warns(DataWarning, match="column 2 has no name; it is called x1"):
        assert found("a,,c\n1,2,3").names == ("a", "x1", "c")
    assert found("a,b,\n1,2,\n3,4,").has_end
    assert found(" a , 'b' \n1,2").names == ("a", "'b'")
    with pytest.raises(DataError, match="t.csv: the file is empty"):
        found("\n\n")


def test_encodings():
    assert find_encoding(b"\xef\xbb\xbfa", ReadOptions(), "") == ("utf-8", 3)
    assert find_encoding(b"\xff\xfea\0", ReadOptions(encoding="utf-16"), "") == ("utf-16-le", 2)
    assert find_encoding(b"\xe9", ReadOptions(encoding="latin-1"), "") == ("latin-1", 0)
    with pytest.raises(DataError, match="t.csv: has zero bytes.*--encoding utf-16-le"):
        find_encoding(b"a\0b\0", ReadOptions(), "t.csv")


def test_cells_of_rows():
    assert cells_of(['1, "a ""b"""', "", " ", '"x', 'y",2'], ",") == [(1, ["1", 'a "b"']), (5, ["x\ny", "2"])]


ONE_CELL_MORE = {
    "a decimal comma in one column": "a\n0,125\n-0,3\n0,7",
    "a decimal comma in a single row": "a\n0,125",
    "a decimal comma in one of several": "a,b\n1,5,20\n1,7,30\n2,5,40",
    "names that come again": "a,b\nx,1,2\nx,3,4",
}


@pytest.mark.parametrize("name", ONE_CELL_MORE)
def test_one_cell_more_than_names_is_no_index_by_itself(name):
    with pytest.raises(DataError, match="the first row names .* the rows below have"):
        found(ONE_CELL_MORE[name])
    with pytest.warns(DataWarning, match="saved index"):
        found("a,b\n1,0.5,2\n4,0.7,3\n9,0.1,4")  # R's row names of some rows
    assert found(ONE_CELL_MORE[name], index="drop").index == 0


def test_a_sign_behind_the_last_cell_of_rows_alone():
    dialect = found("a,b\n1,2,\n3,4,")
    assert dialect.names == ("a", "b", "")
    assert dialect.has_end


def test_names_that_look_alike_are_one():
    with pytest.raises(DataError, match="named twice"):
        found("caf\u00e9,cafe\u0301\n1,2\n3,4")


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_lines_of_a_quoted_cell_are_no_comments(sign):
    """Nor do inches in a plain cell begin a quoted one, which would hide the comments below."""
    lines = ["name,x", '"a', '# b",1', '"c', '%d",2', "# by hand", '5" pipe,3', '# "odd', "e,4"]
    lines = [line.replace(",", sign) for line in lines]
    found = recognise(lines, ReadOptions(), where="here")
    assert (found.delimiter, found.names, found.num_skipped) == (sign, ("name", "x"), 1)
