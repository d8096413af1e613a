import json
import math

import numpy as np
import pytest
import typer
from scipy import stats
from typer.testing import CliRunner

from preftrace import artifacts
from preftrace.cli.plan import plan as command
from preftrace.errors import ConfigError, DataError
from preftrace.evaluate import planning
from preftrace.evaluate.planning import PlanConfig, plan, plan_for


def test_items_for_an_effect_are_those_of_the_paired_t_test():
    """sd 0.4, effect 0.05, 80% power at 0.05: (1.96 + 0.84)^2 (0.4 / 0.05)^2 = 502, and a few for t."""
    found = plan_for(PlanConfig())
    assert found.items == found.clusters and 502 <= found.items <= 506


def test_the_plan_and_its_effect_go_back_and_forth():
    needed = plan_for(PlanConfig(effect=0.03, sd=0.2, tests=5)).items
    assert plan_for(PlanConfig(sd=0.2, tests=5, items=needed)).detectable <= 0.03
    assert plan_for(PlanConfig(sd=0.2, tests=5, items=needed - 1)).detectable > 0.03


def test_clusters_cost_their_design_effect():
    """4 items a cluster that correlate by 0.5 need 1 + 3 * 0.5 = 2.5 times the items."""
    alone, together = plan_for(PlanConfig()), plan_for(PlanConfig(cluster_size=4, correlation=0.5))
    assert together.design_effect == 2.5
    assert together.items == pytest.approx(2.5 * alone.items, rel=0.02)
    assert together.clusters == math.ceil(together.items / 4)


@pytest.mark.parametrize(("n", "discordance", "effect"), [(60, 0.3, 0.15), (200, 0.2, 0.1)])
def test_the_power_of_mcnemar_is_that_of_simulated_tests(n, discordance, effect):
    """2,000 tables: the standard error of a power of 0.6 is 0.011."""
    rng = np.random.default_rng(0)
    up, down = (discordance + effect) / 2, (discordance - effect) / 2
    tables = rng.multinomial(n, [up, down, 1 - up - down], 2000)
    least, changed = tables[:, :2].min(1), tables[:, :2].sum(1)
    found = np.mean(2 * stats.binom.cdf(least, changed, 0.5) <= 0.05)
    assert planning.mcnemar_power(n, discordance, effect, 0.05) == pytest.approx(found, abs=0.045)


def test_binary_items_alone_are_planned_for_the_exact_test():
    found = plan_for(PlanConfig(effect=0.1, discordance=0.25, items=30))
    assert found.test == "exact McNemar"
    assert planning.mcnemar_power(found.items, 0.25, 0.1, 0.05) >= 0.8
    assert 190 <= found.items <= 230
    assert planning.mcnemar_power(30, 0.25, min(found.detectable, 0.25), 0.05) < 0.9


def test_too_few_items_can_show_nothing():
    assert plan_for(PlanConfig(effect=0.1, discordance=0.2, items=5)).detectable == math.inf


def test_seeds_for_a_claim_about_the_method():
    """sd over seeds 0.02, effect 0.05: with 3 seeds (t[0.975; 2] + t[0.8; 2]) 0.02 / sqrt(3) = 0.062, with 4 0.042."""
    assert plan_for(PlanConfig(seed_sd=0.02)).seeds == 4
    assert plan_for(PlanConfig(seed_sd=0.02, items=100)).seeds is None
    assert plan_for(PlanConfig(seed_sd=0.02, items=2000)).seeds >= 4


def test_bad_settings_are_named_together():
    with pytest.raises(ConfigError, match=r"(?s)power.*samples"):
        plan(power=2, samples=3)
    with pytest.raises(ConfigError, match="more than discordance"):
        plan(effect=0.4, discordance=0.2)


@pytest.fixture
def evaluated(tmp_path):
    """evaluated(stage, trust, clusters): the folder of a finished evaluation."""
    import pyarrow as pa

    def write(stage, trust, clusters):
        names = [f"i{k}" for k in range(len(trust))]
        columns = {"item_id": names, "cluster": clusters, "prompt": names, "trust": [float(t) for t in trust]}

        def make(work):
            artifacts.write_table(work / "items.parquet", pa.table(columns))
            return {"metrics": {}, "scorer": None}

        spec = artifacts.StageSpec("evaluate", f"evaluate/{stage}/v", 1, {}, {"model": stage})
        artifacts.run_stage(tmp_path / stage / "v", spec, make)
        return tmp_path / stage

    return write


def test_measured_differences_take_the_place_of_assumed_ones(evaluated):
    """Copies of 5 in each of 40 clusters: correlation 1, so that items count by cluster."""
    rng = np.random.default_rng(0)
    clusters = [f"c{k // 5}" for k in range(200)]
    before, change = rng.uniform(0.3, 0.5, 200), np.repeat(rng.normal(0, 0.1, 40), 5)
    a, b = evaluated("a", before, clusters), evaluated("b", before + change, clusters)
    ((settings, found),) = plan(a, b, effect=0.05).values()
    assert settings.sd == pytest.approx(change.std(ddof=1)) and settings.cluster_size == 5
    assert settings.correlation == pytest.approx(1, abs=0.05)
    assert found.clusters == pytest.approx(((1.96 + 0.84) * settings.sd / 0.05) ** 2, rel=0.1)


def test_measured_binary_items_give_their_discordance(evaluated):
    rng = np.random.default_rng(1)
    names = [f"c{k}" for k in range(100)]
    before = rng.random(100) < 0.5
    after = before ^ (rng.random(100) < 0.3)
    ((settings, found),) = plan(evaluated("a", before, names), evaluated("b", after, names), effect=0.1).values()
    assert settings.discordance == np.mean(before != after) and found.test == "exact McNemar"


def test_what_does_not_vary_cannot_be_planned_with(evaluated):
    a, b = (evaluated(s, [0.5, 0.5, 0.5], ["x", "y", "z"]) for s in "ab")
    with pytest.raises(DataError, match="no spread to plan with"):
        plan(a, b)


def invoke(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_says_it_in_words_and_in_json(evaluated):
    said = invoke("--effect", "0.03", "--sd", "0.2", "--items", "100", "--seed-sd", "0.01").stdout
    assert "To find a difference of 0.03" in said and "100 items show" in said and "seeds" in said
    (found,) = json.loads(invoke("--json").stdout).values()
    assert found["plan"]["items"] == plan_for(PlanConfig()).items
    assert isinstance(invoke("only-one").exception, ConfigError)


def test_one_evaluation_alone_is_not_passed_over(tmp_path):
    with pytest.raises(ConfigError, match="two evaluations"):
        plan(tmp_path)
