"""What the YAML files beside this one name: lm-eval imports it from here."""

from preftrace.evaluate.exports.lm_eval_task import Vertical as Vertical
