"""A chart on the page, with what a reader without eyes or with a spreadsheet needs: its table, CSV and SVG to save."""

import base64
from collections.abc import Callable, Sequence
from html import escape

import pyarrow as pa
import streamlit as st

from ray_app.data.arrow_csv import to_csv
from ray_app.ui import components
from ray_app.ui.figures.svg import WIDTH
from ray_app.ui.translations import Translate

SHOWN = 100  # rows of a table on the page; the file has all

Cells = Callable[[dict[str, object]], Sequence[str | float | None]]


def image(svg: str, label: str) -> str:
    """An SVG as an image, as wide as there is room: nothing in it can run, whatever a name says."""
    head, _, rest = svg.partition(">")
    height = head.partition(' height="')[2].partition('"')[0]
    fluid = head.replace(f'width="{WIDTH}" height="{height}"', 'width="100%" height="100%"')  # else letters stretch
    source = base64.b64encode(f"{fluid}>{rest}".encode(errors="replace")).decode()
    style = f"width:100%;height:{height}px"
    return f'<img src="data:image/svg+xml;base64,{source}" alt="{escape(label)}" style="{style}">'


def show(name: str, svg: str, label: str, table: pa.Table, head: Sequence[str], cells: Cells, say: Translate) -> None:
    """Draws a chart with its table below, and buttons that save both.

    Args:
        name: of the files, and the key of the widgets.
        label: what the chart shows, in a sentence.
        table: all of its numbers, as they are saved.
        head, cells: of the table as it is shown.
    """
    if svg:
        st.html(image(svg, label))
    with st.container(horizontal=True, gap="small"):
        st.download_button(say("save_csv"), to_csv(table), f"{name}.csv", "text/csv", key=f"csv {name}")
        if svg:
            content = svg.encode(errors="replace")
            st.download_button(say("save_svg"), content, f"{name}.svg", "image/svg+xml", key=f"svg {name}")
    with st.expander(say("as_table"), expanded=not svg, key=f"table {name}"):
        rows = [cells(row) for row in table.slice(0, SHOWN).to_pylist()]
        st.html(components.table(head, rows))
        if len(table) > SHOWN:
            st.html(components.note(say("table_cut", shown=SHOWN, all=f"{len(table):,}")))
