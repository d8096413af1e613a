"""Pairs and a checkpoint in, a checkpoint out. The only room that imports trl.

Each file without a leading underscore is a training stage, under the file's name. It defines

    VERSION: int                      raised whenever results may differ
    class Config(StageConfig)         its settings
    POLICY: bool                      whether it makes a model that answers (False: one that scores answers)
    LOSS: str                         one sentence: what is minimised, and which reduction
    train(job, lm) -> Trained         writes tokens.parquet and trains; `_train.run` saves what it returns
"""

from preftrace.align._config import PairConfig as PairConfig
from preftrace.align._config import StageConfig as StageConfig
from preftrace.align._run import run as run
from preftrace.rooms import make_callable

make_callable(__name__)
