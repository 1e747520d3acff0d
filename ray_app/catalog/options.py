"""What a catalog run is told: the options of `jobs.analyze`."""

from dataclasses import dataclass

from ray_app.errors import check
from ray_app.options import Options, option


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.analyze`."""

    input: str = option(
        "sample",
        "reviews: Parquet, CSV, JSON lines or xlsx: files, folders or globs, local or s3://; sample = those shipped",
        "Data",
        common=True,
    )
    bundle: str = option("ready", "bundle that jobs.train wrote; ready is the shipped one", "Data", common=True)
    taxonomy: str = option(
        "",
        "YAML file of keywords that nobody labeled yet: the bundle guesses them by their names, guidelines and cue "
        "words; what it learns for that is kept in OUTPUT.bundle",
        "Data",
        common=True,
    )
    output: str = option("runs/analyses", "output folder; an unfinished run in it is resumed", "Data", common=True)
    columns: str = option(
        "",
        "column names, where they are not recognized: review_id=NAME,text=NAME; review_id=# numbers the rows",
        "Data",
        common=True,
    )
    keep: tuple[str, ...] = option(
        (), "columns that pass through, by name or role (product, date, rating, mall)", "Data", common=True
    )
    text: bool = option(True, "keep the review's text beside its analysis", "Data")
    source: bool = option(False, "also keep the file and row of each review (source_file, source_row)", "Data")
    findings_table: str = option(
        "parquet",
        "also write a flat table, one row per finding, to OUTPUT/findings; csv adds the same for spreadsheets",
        "Data",
        ("parquet", "csv", "off"),
    )
    partition_by: str = option("", "kept column whose values become folders: OUTPUT/data/mall=A/", "Data")
    sink: str = option("", "also append the rows to a table, in pyiceberg's catalog", "Data", ("", "iceberg"))
    table: str = option("nunchi.analyses", "the table that --sink appends to", "Data")
    limit: int = option(0, "analyze only the first N rows; 0 for all", "Data", least=0, common=True)
    resume: bool = option(True, "resume the unfinished run that --output holds", "Run")
    incremental: bool = option(
        False, "also analyze input files that were added since --output was begun", "Run", common=True
    )
    dry_run: bool = option(False, "print plan, columns, estimated time and memory; write nothing", "Run", common=True)
    max_rejected: str = option("100%", "stop when more than this are rejected: 1% of the rows, or a number", "Run")
    price_per_hour: float = option(0.0, "price of the machines per hour, to report the cost of the run", "Run", least=0)
    highlights: str = option(
        "auto",
        "the word behind every keyword: exact masks every word, recheck a few, attention none; auto is attention where "
        "the bundle learned it from words, else exact; off skips it",
        "Analysis",
        ("auto", "exact", "recheck", "attention", "off"),
        common=True,
    )
    thresholds: str = option(
        "",
        "JSON file of thresholds in place of the bundle's own, as the page saves them",
        "Analysis",
    )
    opinions: bool = option(
        True,
        "beside every highlight, the word that says the feeling; takes a second masked pass with a bundle whose labels "
        "had no opinions",
        "Analysis",
    )
    recheck_words: int = option(3, "words per keyword that recheck decides among", "Analysis", least=1)
    recheck_by: str = option(
        "int8",
        "what names them: an int8 pass over every masked word, or attention, which is quicker and agrees less",
        "Analysis",
        ("int8", "attention"),
    )
    recheck_floor: float = option(
        0.98,
        "smallest share of highlights, on a sample of the input, in which recheck must agree with exact",
        "Analysis",
        least=0,
        most=1,
    )
    words: str = option(
        "space",
        "what a word is: whitespace units, or kiwi's words for texts without spaces",
        "Analysis",
        ("space", "kiwi"),
    )
    embeddings: bool = option(False, "keep the keyword encoder's vector of every review (`embedding`)", "Analysis")
    placement: str = option(
        "auto",
        "all stages in one actor (fused), one pool per stage (pools), or in this process without Ray (here); auto is "
        "fused, and here for a few thousand rows on a small machine",
        "Cluster",
        ("auto", "fused", "pools", "here"),
    )
    workers: int = option(
        0, "actors per pool, 0 for as many as GPUs hold, or one per four CPUs", "Cluster", least=0, common=True
    )
    gpus_per_worker: float = option(
        0.0, "share of a GPU that an actor reserves, 0 for a whole one, which pools share", "Cluster", least=0, most=1
    )
    cpus_per_worker: float = option(
        0.0, "CPUs an actor reserves and uses as threads, 0 for an equal share", "Cluster", least=0
    )
    device: str = option("auto", "where the classifiers run", "Cluster", ("auto", "cpu", "cuda"))
    unit_rows: int = option(2_000, "most rows per unit of work", "Cluster", least=1)
    file_megabytes: int = option(128, "megabytes per output file", "Cluster", least=1)
    progress_seconds: float = option(
        30.0, "seconds between progress lines where stderr is no terminal", "Cluster", above=0
    )
    log: str = option(
        "text", "json also prints a line of JSON per committed unit, with a run id", "Cluster", ("text", "json")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check("://" not in self.output or self.output.startswith("s3://"), f"--output {self.output}: a folder or s3://")
        check(
            not self.partition_by or (self.partition_by in self.keep and self.partition_by != "text"),
            f"--partition-by {self.partition_by}: name it in --keep too",
        )
        check(all(self.table.split(".")) and "." in self.table, f"--table {self.table!r}: write NAMESPACE.TABLE")
        check(not (self.limit and self.incremental), "--limit with --incremental: a cut input cannot be added to")
        self.rejects_allowed(100)

    def rejects_allowed(self, rows: int) -> float:
        """How many of `rows` rows may be rejected. Raises UserError where --max-rejected is neither % nor number."""
        share = self.max_rejected.endswith("%")
        try:
            number = float(self.max_rejected.removesuffix("%"))
        except ValueError:
            number = -1
        check(number >= 0, f"--max-rejected {self.max_rejected}: write 1% or a number of rows")
        return rows * number / 100 if share else number
