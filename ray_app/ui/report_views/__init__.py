"""What `jobs.report` says of a folder of analyses, as views of the page: ranking, trend, what costs stars, compare."""
