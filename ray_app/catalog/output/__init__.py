"""What a unit's rows become: folders of a partitioned output, the flat table of findings, counts of rejects."""
