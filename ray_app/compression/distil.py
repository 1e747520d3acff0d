"""`jobs.compress distil`: a student of a bundle, cut out of its teacher and taught to say what the teacher says.

In: a bundle of the joint form, unlabeled reviews, labels. Out: a bundle with fewer layers or narrower ones. The labels
teach nothing: by their validation rows the best pass is chosen, thresholds are tuned and scores calibrated anew.
"""

import tempfile
from pathlib import Path

from ray_app.compression.distil_options import DistilConfig


def distil(config: DistilConfig) -> str:
    """Teaches in this process, seals the bundle behind the gate and returns its id. Raises UserError where the output
    exists, the teacher is not of the joint form, there is too little to learn from, or the student fails."""
    from ray_app.compression.sealed import check_free, seal_behind_gate
    from ray_app.compression.teaching import taught
    from ray_app.inference import bundle as bundles
    from ray_app.labels import reader

    check_free(config.output)
    teacher = bundles.load(config.bundle)
    bundles.check_joint(teacher, "--bundle")
    labels = reader.read_labels_with(config.labels, teacher.meta.taxonomy, "fail")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        meta = taught(config, teacher, labels, folder)
        return seal_behind_gate(folder, meta, teacher, config, config.output)
