"""What a catalog's analyses say, with numbers that hold: one pass over them, tables, a report to read, alerts."""
