"""The report as people read it: one HTML file, and Markdown. In: a Report. Out: text."""
