"""The data that goes in and out: texts, reviews, analyses, the taxonomy, the columns of every table."""
