"""What people decided about labels: the rows, the files that the page writes, and labels given anew by them."""
