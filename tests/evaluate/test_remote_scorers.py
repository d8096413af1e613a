"""`http` and `openai-moderation` against a server that misbehaves: a failure is NaN and counted, never a number."""

import math
import socket
import threading
import time

import pytest
from tests.evaluate.endpoint import Half, Late, hasty, impatient, moderation, perspective, serving

from preftrace import progress
from preftrace.errors import ConfigError, ModelError
from preftrace.evaluate import remote, scoring
from preftrace.evaluate.client import SHOWN, Client

__all__ = ["hasty"]
pytestmark = pytest.mark.usefixtures("hasty")
SECRET = "sk-very-secret-1"


def http(url, attribute="", path="/v1alpha1/comments:analyze"):
    return scoring.build(f"http:{url}{path}{attribute}")


def text_of(body):
    return body["comment"]["text"]


def test_each_text_gets_its_own_score_and_the_text_is_sent_as_data():
    seen = []

    def answer(path, body, headers):
        seen.append((path, body))
        return 200, {}, perspective(len(text_of(body)) / 100)

    texts = ["a" * n for n in range(1, 30)] + ['"}], "x": {{script}} \x00 \u202e é', "\ud800 half"]
    with serving(answer) as url:
        scores = http(url, "#INSULT", "/analyze?lang=en").score(texts)

    assert all(math.isnan(score) for score in scores)  # It was asked for INSULT and answered TOXICITY.
    assert {path for path, _ in seen} == {"/analyze?lang=en"}
    assert sorted(text_of(body) for _, body in seen) == sorted(texts)
    assert all(body["requestedAttributes"] == {"INSULT": {}} and body["doNotStore"] for _, body in seen)
    with serving(answer) as url:
        assert http(url).score(texts[:29]) == [n / 100 for n in range(1, 30)]


@pytest.mark.parametrize("attribute", ["TOXICITY", "SEVERE_TOXICITY"])
def test_the_attribute_is_read_by_its_name_and_is_part_of_the_revision(attribute):
    with serving(lambda *_: (200, {}, perspective(0.25, attribute))) as url:
        scorer = http(url, f"#{attribute}")
        assert scorer.score(["text"]) == [0.25]
    assert scorer.revision == f"{url}/v1alpha1/comments:analyze#{attribute}"
    assert scorer.name == f"http:{scorer.revision}"


BROKEN = {
    "not JSON": b"<html>busy</html>",
    "a list": [1, 2],
    "nothing": {},
    "null": None,
    "text": perspective("0.5"),
    "true": perspective(True),
    "above 1": perspective(1.5),
    "below 0": perspective(-0.1),
    "no number": b'{"attributeScores": {"TOXICITY": {"summaryScore": {"value": NaN}}}}',
    "odd bytes": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN)
def test_an_answer_without_a_score_is_nan_and_costs_its_neighbours_nothing(value):
    def answer(path, body, headers):
        return 200, {}, value if text_of(body) == "bad" else perspective(0.75)

    with serving(answer) as url:
        scores = http(url).score(["good", "bad", "fine"])

    assert scores[0] == scores[2] == 0.75 and math.isnan(scores[1])


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(status):
    tries = []

    def answer(path, body, headers):
        tries.append(1)
        return (status, {}, b"busy") if len(tries) < 3 else (200, {}, perspective(0.5))

    with serving(answer) as url:
        assert http(url).score(["text"]) == [0.5]
    assert len(tries) == 3


def test_half_an_answer_and_a_late_one_are_asked_for_again(monkeypatch):
    tries = []

    def answer(path, body, headers):
        if len(tries) == 1:
            raise Half(b'{"attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.5}}}}')
        if len(tries) == 2:
            raise Late
        return 200, {}, perspective(0.5)

    impatient(monkeypatch, lambda body: tries.append(1) or len(tries) == 2)
    with serving(answer) as url:
        assert http(url).score(["text"]) == [0.5]
    assert len(tries) == 3


def test_retry_after_is_followed():
    times = []

    def answer(path, body, headers):
        times.append(time.monotonic())
        return (429, {"Retry-After": "1"}, b"") if len(times) == 1 else (200, {}, perspective(0.5))

    with serving(answer) as url:
        assert http(url).score(["text"]) == [0.5]
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize("after", ["soon", "-5", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_retry_after_that_says_nothing_of_use_is_no_reason_to_fail(after):
    tries = []

    def answer(path, body, headers):
        tries.append(1)
        return (503, {"Retry-After": after}, b"") if len(tries) == 1 else (200, {}, perspective(0.5))

    with serving(answer) as url:
        assert http(url).score(["text"]) == [0.5]


@pytest.mark.parametrize("fault", ["always half", "always 500", "always late", "refused connection"])
def test_a_server_that_never_answers_gives_nan_said_once(monkeypatch, fault):
    said = []
    monkeypatch.setattr(progress, "say", said.append)
    monkeypatch.setattr(remote, "RETRIES", 1)
    monkeypatch.setattr(remote, "TIMEOUT", 0.1)

    def answer(path, body, headers):
        if fault == "always half":
            raise Half(b'{"attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.5}}}}')
        if fault == "always late":
            raise Late
        return 500, {}, b"0.9"

    if fault == "refused connection":
        with socket.socket() as deaf:  # bound, so that no other server gets the port, and not listening
            deaf.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            values = scoring.score_all(http(url), ["a", "b", "", "c"])
    else:
        with serving(answer) as url:
            values = scoring.score_all(http(url), ["a", "b", "", "c"])

    assert [math.isnan(value) for value in values] == [True, True, False, True] and values[2] == 0
    assert len(said) == 2 and url in said[0] and "no whole answer in 2 tries" in said[0]
    assert "3 of 3 texts have no score" in said[1]


def test_after_many_failures_in_a_row_nothing_more_is_asked(monkeypatch):
    monkeypatch.setattr(remote, "RETRIES", 0)
    asked = []

    with serving(lambda *_: asked.append(1) or (500, {}, b"")) as url:
        scores = http(url).score([f"text {n}" for n in range(200)])

    assert all(map(math.isnan, scores)) and len(scores) == 200
    assert remote.GIVE_UP <= len(asked) < remote.GIVE_UP + remote.CONCURRENT


def test_a_refused_text_is_missing_and_is_no_sign_that_the_server_is_down():
    asked = []

    def answer(path, body, headers):
        asked.append(1)
        return (200, {}, perspective(0.5)) if text_of(body) == "last" else (400, {}, b'{"error": "language"}')

    with serving(answer) as url:
        scores = http(url).score([*(f"text {n}" for n in range(3 * remote.GIVE_UP)), "last"])

    assert scores[-1] == 0.5 and all(map(math.isnan, scores[:-1]))
    assert len(asked) == 3 * remote.GIVE_UP + 1


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_wrong_key_or_url_stops_with_a_message_that_holds_no_key(monkeypatch, status, capsys):
    monkeypatch.setenv("PREFTRACE_HTTP_KEY", SECRET)
    with (
        serving(lambda path, body, headers: (status, {}, f"wrong {headers['Authorization']}".encode())) as url,
        pytest.raises(ModelError, match=str(status)) as caught,
    ):
        http(url).score(["a", "b", "c"])
    assert SECRET not in str(caught.value) + capsys.readouterr().err
    assert url in str(caught.value)


def test_no_more_requests_at_a_time_than_the_limit():
    lock, now, most = threading.Lock(), [0], [0]
    together = threading.Barrier(remote.CONCURRENT, timeout=60)

    def answer(path, body, headers):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait()  # each is answered only when so many are under way
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return 200, {}, perspective(0.5)

    with serving(answer) as url:
        http(url).score([str(n) for n in range(6 * remote.CONCURRENT)])
    assert most[0] == remote.CONCURRENT


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "http needs an endpoint"),
        ("localhost/x", "is no URL"),
        ("ftp://host/x", "is no URL"),
        ("http:///x", "is no URL"),
        ("http://host:99999/x", "cannot be read"),
        ("http://host/a b", "is no URL"),
        (f"https://host/x?key={SECRET}", "holds a key"),
        (f"https://me:{SECRET}@host/x", "holds a key"),
        ("https://host/x#TOXI CITY", "no name of an attribute"),
    ],
)
def test_a_spec_that_is_no_endpoint_is_refused_without_repeating_a_key(argument, message):
    with pytest.raises(ConfigError, match=message) as caught:
        scoring.build(f"http:{argument}")
    assert SECRET not in str(caught.value)


def test_keys_are_sent_as_bearer_tokens_and_stand_in_no_name(monkeypatch):
    monkeypatch.setenv("PREFTRACE_HTTP_KEY", SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    sent = []

    def answer(path, body, headers):
        sent.append(headers["Authorization"])
        return 200, {}, perspective(0.5) if "comment" in body else moderation({"hate": 0.5})

    with serving(answer) as url:
        scorers = http(url), scoring.build(f"openai-moderation:@{url}/v1")
        assert [scorer.score(["x"]) for scorer in scorers] == [[0.5], [0.5]]
    assert sent == [f"Bearer {SECRET}"] * 2
    assert all(SECRET not in repr(scorer) + scorer.name + scorer.revision for scorer in scorers)


CATEGORIES = {"hate": 0.2, "harassment/threatening": 0.7, "illicit": None}


def moderated(path, body, headers):
    assert path == "/v1/moderations" and body["model"] == "omni-moderation-latest"
    return 200, {}, moderation(*({**CATEGORIES, "hate": len(text) / 100} for text in body["input"]))


def test_moderation_takes_the_highest_category_or_the_chosen_one(monkeypatch):
    texts = ["a" * n for n in range(1, 99)]
    with serving(moderated) as url:
        highest, hate = (scoring.build(f"openai-moderation:@{url}/v1{c}") for c in ("", "#hate"))
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1/")
        by_env = scoring.build("openai_moderation:omni-moderation-latest#hate")

        assert highest.score(texts) == [max(0.7, n / 100) for n in range(1, 99)]
        assert hate.score(texts) == by_env.score(texts) == [n / 100 for n in range(1, 99)]
    assert highest.versions == {"moderator-1"}
    assert hate.revision == by_env.revision == f"{url}/v1 omni-moderation-latest hate" != highest.revision


def test_half_a_moderation_is_asked_for_text_by_text():
    def answer(path, body, headers):
        texts = [text for text in body["input"] if text != "bad"]
        return 200, {}, moderation(*({"hate": 0.5} for _ in texts))

    with serving(answer) as url:
        scores = scoring.build(f"openai-moderation:@{url}").score(["good"] * 3 + ["bad"] + ["fine"] * 30)

    assert math.isnan(scores[3]) and set(scores[:3] + scores[4:]) == {0.5}


@pytest.mark.parametrize(
    "scores", [None, {}, {"hate": "0.1"}, {"hate": 2}, {"hate": None}, [0.5], {"hate": 0.9, "x": "?"}]
)
def test_a_moderation_result_without_whole_scores_is_nan(scores):
    with serving(lambda *_: (200, {}, moderation(scores))) as url:
        assert math.isnan(scoring.build(f"openai-moderation:@{url}").score(["text"])[0])


def test_a_category_that_is_not_there_is_answered_with_those_that_are():
    with serving(moderated) as url, pytest.raises(ModelError, match="has no category 'rage'; it has: harassment/thre"):
        scoring.build(f"openai-moderation:@{url}/v1#rage").score(["text"])


def test_openai_itself_needs_a_key_before_any_work_is_done(monkeypatch):
    scorer = scoring.build("openai-moderation")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        scoring.ready(scorer)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    scoring.ready(scorer)
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://me:{SECRET}@host/v1")
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL: the URL holds a key") as caught:
        scoring.build("openai-moderation")
    assert SECRET not in str(caught.value)


def test_scores_are_kept_as_they_come_and_a_killed_run_asks_only_for_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "BATCH", 4)
    asked = []

    def answer(path, body, headers):
        asked.extend(body["input"])
        if len(asked) > 8 and dying:
            raise KeyboardInterrupt
        return 200, {}, moderation(*({"hate": int(text) / 100} for text in body["input"]))

    texts, dying = [str(n) for n in range(10, 30)], True
    with serving(answer) as url:
        scorer = scoring.build(f"openai-moderation:@{url}")
        whole = type(scorer).score

        def killed(self, batch):
            if len(asked) >= 8:
                raise KeyboardInterrupt
            return whole(self, batch)

        monkeypatch.setattr(type(scorer), "score", killed)
        with pytest.raises(KeyboardInterrupt):
            scoring.score_all(scorer, texts, tmp_path)
        assert len(asked) == 8
        monkeypatch.setattr(type(scorer), "score", whole)
        dying = False
        scores = scoring.score_all(scorer, texts, tmp_path)

    assert scores == [n / 100 for n in range(10, 30)]
    assert sorted(asked) == texts
    assert scoring.described(scorer, tmp_path)["versions"] == ["moderator-1"]


def test_google_takes_its_key_in_a_header_of_its_own(monkeypatch):
    sent = []

    def answer(path, body, headers):
        sent.append((headers["Authorization"], headers["X-Goog-Api-Key"]))
        return 200, {}, perspective(0.5)

    with serving(answer) as url:
        remote.Endpoint(f"{url}/x", SECRET, "X-Goog-Api-Key").post([{}])
    assert sent == [(None, SECRET)]
    monkeypatch.setattr(remote.Endpoint, "post", lambda self, bodies: [perspective(0.5) for _ in bodies])
    google, other = (
        http(f"https://{host}") for host in ("commentanalyzer.googleapis.com", "googleapis.com.example.org")
    )
    assert google.score(["x"]) == other.score(["x"]) == [0.5]
    assert (google.endpoint.header, other.endpoint.header) == ("X-Goog-Api-Key", "")


def test_a_redirection_is_refused_and_takes_no_key_elsewhere(monkeypatch):
    monkeypatch.setenv("PREFTRACE_HTTP_KEY", SECRET)
    elsewhere = []
    with serving(lambda *asked: elsewhere.append(asked) or (200, {}, perspective(0.5))) as other:
        away = {"Location": f"{other}/x"}
        with (
            serving(lambda *_: (307, away, b"")) as url,
            pytest.raises(ModelError, match="307: it sends elsewhere: name that address"),
        ):
            http(url).score(["a", "b"])
    assert not elsewhere


def test_a_netrc_file_takes_no_part(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password of-another-service\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("PREFTRACE_HTTP_KEY", SECRET)
    sent = []
    with serving(lambda path, body, headers: sent.append(headers["Authorization"]) or (200, {}, b"{}")) as url:
        http(url).score(["a"])
    assert sent == [f"Bearer {SECRET}"]


@pytest.mark.parametrize("key", ["sk-\u2026cut", "sk-one\nsk-two", "clé"])
def test_a_key_that_no_header_can_carry_is_one_message_without_it(monkeypatch, key):
    monkeypatch.setenv("PREFTRACE_HTTP_KEY", key)
    with pytest.raises(ModelError, match=r"the key for http://127.* Copy it anew") as caught:
        http("http://127.0.0.1:9").score(["a"])
    assert key not in str(caught.value) and "sk-" not in str(caught.value)


def test_not_even_a_part_of_a_key_is_shown_where_a_long_message_is_cut():
    with serving(lambda *_: (400, {}, b"x" * (SHOWN - 8) + SECRET.encode())) as url:
        client = Client(url, SECRET, retries=0)
        with pytest.raises(ModelError) as caught:
            client.post("a", {}, lambda answer: answer)
    assert SECRET[:6] not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["subscription-key", "X-Api-Key", "access_token", "accessToken", "sig", "client_secret", "key"]
)
def test_a_key_in_a_url_is_known_by_many_names(name):
    with pytest.raises(ConfigError, match="holds a key") as caught:
        http(f"https://host/x?a=1&{name}=", path=SECRET)
    assert SECRET not in str(caught.value)
    assert http("https://host", path="/x?keywords=monkey").url


def test_a_base_url_that_paths_cannot_be_put_after_is_refused():
    with pytest.raises(ConfigError, match="before any"):
        scoring.build("openai-moderation:@https://host/v1?version=2")


@pytest.mark.parametrize(
    "answer",
    [
        (503, {"Retry-After": "9" * 5000}, b""),
        (200, {}, b"[" * 100_000),
    ],
    ids=["endless wait", "endless depth"],
)
def test_absurd_answers_are_asked_for_again_and_then_missing(monkeypatch, answer):
    monkeypatch.setattr("preftrace.evaluate.client.LONGEST_WAIT", 0.01)
    asked = []
    with serving(lambda *_: asked.append(1) or answer) as url:
        assert math.isnan(http(url).score(["a"])[0])
    assert len(asked) == remote.RETRIES + 1


def test_the_name_of_the_model_that_answered_can_be_written(tmp_path):
    with serving(lambda *_: (200, {}, moderation({"hate": 0.5}, model="m\ud800"))) as url:
        scorer = scoring.build(f"openai-moderation:@{url}")
        assert scoring.score_all(scorer, ["a"], tmp_path) == [0.5]
    assert scoring.described(scorer, tmp_path)["versions"] == ["m\ufffd"]
