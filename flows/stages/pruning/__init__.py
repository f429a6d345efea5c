"""Stages that prune: masks from scores, removal at once or in steps, compaction, and accuracies before and after.

What each removal saved is logged with it.
"""

from flows.stages.pruning.accuracy import evaluation_of
from flows.stages.pruning.compact import compact_network, compaction_in_words
from flows.stages.pruning.curve import PERCENTAGES, load_curve, measure_curve, repeat_curve
from flows.stages.pruning.evaluate import compare_masks, evaluate_network
from flows.stages.pruning.gradual import schedule_of, train_gradually
from flows.stages.pruning.mask_pictures import log_mask_pictures, mask_picture_of
from flows.stages.pruning.prune import prune_network
from flows.stages.pruning.pruning_steps import certificates_in_words, masks_by_step
from flows.stages.pruning.refit_log import REFIT, refit_in_words
from flows.stages.pruning.remove import all_kept, without
from flows.stages.pruning.snip_at_initialisation import choose_connections, choose_units

__all__ = [
    "PERCENTAGES",
    "REFIT",
    "all_kept",
    "certificates_in_words",
    "choose_connections",
    "choose_units",
    "compact_network",
    "compaction_in_words",
    "compare_masks",
    "evaluate_network",
    "evaluation_of",
    "load_curve",
    "log_mask_pictures",
    "mask_picture_of",
    "masks_by_step",
    "measure_curve",
    "prune_network",
    "refit_in_words",
    "repeat_curve",
    "schedule_of",
    "train_gradually",
    "without",
]
