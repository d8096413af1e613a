"""Influence: how much each pair moved each vertical's trust. `score > 0`: the pair helps; `score < 0`: it harms.

score[v, k] = dM_v / d(weight of pair k) to first order = -(H^-1 grad M_v) . grad loss_k, block by block
(Koh & Liang 2017, arXiv 1703.04730), where M_v is the query of vertical v in the trust direction. The weights are
those of (1/n) sum_k w_k loss_k, scaled by n; so taking pair k out changes M_v by about -score / n.
"""

from preftrace.rooms import make_callable

make_callable(__name__)
