"""Tasks in a Dag: what is refused when it is parsed, and what survives serialization, templates and mapping."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, XComArg, task

from airflow_lro_provider.lro.errors import InvalidRequestError, UnknownServiceError
from airflow_lro_provider.operators.operations import (
    CancelOperationOperator,
    CancelOperationsOperator,
    RunOperationOperator,
)
from airflow_lro_provider.sensors.operations import OperationSensor
from tests.airflow.versions import DagSerialization, is_mapped, since_3

NAME = "projects/p/locations/us-central1/operations/o"
BOTH = [OperationSensor, CancelOperationOperator]


def decorated(**arguments: Any) -> Any:
    """A task of ``@task.operation``."""
    return task.operation(lambda: NAME, **arguments)()


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"operation_name": "operations"}, "is not a name of an operation of Data Fusion"),
        ({"operation_name": "projects/p/operations/o"}, "It looks like one of earthengine"),
        ({"operation_name": NAME + ":cancel"}, "Leave it out"),
        ({"operation_name": 7.5}, "by a string or by its dict, not by float"),
        ({"operation_name": "{'name': 'x'}"}, "Jinja turned into a string"),
        ({"service": None}, "give service="),
        ({"service": "vertex"}, "Did you mean 'aiplatform'?"),
        ({"api_version": "v7"}, "has no API version 'v7'. It has: v1, v1beta1"),
        ({"operation_name": "http://datafusion.googleapis.com/v1/" + NAME}, "over https only"),
        ({"operation_name": "https://private.example/v1/" + NAME}, None),
        ({"operation_name": "https://evil.example/v1/" + NAME, "gcp_conn_id": None}, "nothing was sent"),
        ({"operation_name": "//aiplatform.googleapis.com/" + NAME}, "but `service` says 'datafusion'"),
        ({"fail_on": {"BROKEN"}}, "`fail_on` has no outcome 'BROKEN'; there are: SUCCEEDED"),
    ],
)
def test_what_can_never_be_right_is_refused_when_the_dag_is_parsed(
    make: type[BaseOperator], arguments: dict[str, Any], words: str | None
) -> None:
    """Every kind of bad literal input is one clear sentence at parse time; what the connection may allow is not."""
    arguments = {"task_id": "t", "operation_name": NAME, "service": "datafusion", **arguments}
    if words is None:
        with pytest.warns(UserWarning, match="is not Google's"):
            make(**arguments)  # known only with the connection: `execute` refuses it
        return
    with pytest.raises((ValueError, TypeError)) as caught:
        make(**arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize("make", [RunOperationOperator, *BOTH, CancelOperationsOperator, task.operation])
def test_a_version_is_read_in_one_way(make: Any) -> None:
    """B9, C11: white space around it does not count, and one that the API does not have is named with those it has."""
    given: dict[str, Any] = {"service": "datafusion"}
    if make is RunOperationOperator:
        given["method"] = "projects/p/locations/l/instances?instanceId=x"
    elif make is CancelOperationsOperator:
        given["parent"] = "projects/p/locations/l"
    elif make in BOTH:
        given["operation_name"] = NAME

    def parse(version: Any) -> None:
        if make is task.operation:
            with DAG("d", schedule=None):
                make(task_id="t", **given, api_version=version)(lambda: "")()
        else:
            make(task_id="t", **given, api_version=version)

    for version in ("v9", "V1", "v9\n", 1, ""):
        with pytest.raises(UnknownServiceError, match=r"has no API version .*\. It has: v1, v1beta1\."):
            parse(version)
    for version in ("v1", "v1\n", " v1beta1 "):
        parse(version)


def test_a_method_that_may_start_no_operation_gets_a_warning() -> None:
    """What it starts would run on without its task: said before, unless a resource is what is wanted."""
    jobs = {"task_id": "t", "service": "aiplatform", "method": "projects/p/locations/us-central1/customJobs"}
    with pytest.warns(UserWarning, match="task 't': .* not known to respond to POST .*`allow_resource=True`"):
        RunOperationOperator(**jobs)
    RunOperationOperator(**jobs, allow_resource=True)
    builds = {"task_id": "t", "service": "cloudbuild", "method": "projects/p/locations/us-central1/builds"}
    with pytest.warns(UserWarning, match='v1 is: give api_version="v1"'):
        RunOperationOperator(**builds)
    RunOperationOperator(**builds, api_version="v1")


def test_a_service_that_cannot_cancel_gets_a_warning() -> None:
    """C4: for whoever counts on it, by `cancel_on_kill`; not for one who says that it is intended."""
    name, method = "projects/p/locations/l/operations/o", "projects/p/locations/l/jobs/j:run"
    with pytest.warns(
        UserWarning,
        match=r"^task '\w+': Cloud Run.* cannot cancel its operations.*runs on.*cancel_on_kill=False",
    ):
        RunOperationOperator(task_id="t", service="run", method=method)
    with pytest.warns(UserWarning, match="cannot cancel its operations"):
        OperationSensor(task_id="t", service="run", operation_name=name)
    RunOperationOperator(task_id="t", service="run", method=method, cancel_on_kill=False)
    OperationSensor(task_id="t", service="run", operation_name=name, cancel_on_kill=False)


@pytest.mark.parametrize("make", [OperationSensor, CancelOperationOperator])
def test_a_location_that_looks_misspelt_gets_a_warning(make: type[BaseOperator]) -> None:
    """B3: it may be new, so the Dag is parsed; the warning says which one may be meant."""
    for service in ("aiplatform", "datafusion", "run"):
        if make is CancelOperationOperator and service == "run":
            continue  # it cannot cancel
        with pytest.warns(UserWarning, match="task 't': no location 'us-centrall' is known .* Did you mean us-central"):
            make(
                task_id="t",
                service=service,
                operation_name=NAME.replace("central1", "centrall"),
                **({"cancel_on_kill": False} if make is OperationSensor else {}),
            )


@pytest.mark.parametrize("running", ["t", "another"])
def test_nothing_is_warned_of_where_a_task_runs(monkeypatch: pytest.MonkeyPatch, running: str) -> None:
    """Its process reads the whole file. Of what concerns the task, its try warns."""
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "d")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", running)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RunOperationOperator(task_id="t", service="aiplatform", method="projects/p/locations/us-centrall/customJobs")


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (OperationSensor, {"poke_interval": -1}),
        (OperationSensor, {"poke_interval": "soon"}),
        (CancelOperationOperator, {"poll_interval": -0.1}),
        (CancelOperationOperator, {"timeout": float("nan")}),
        (CancelOperationOperator, {"timeout": timedelta(seconds=-1)}),
    ],
)
def test_times_that_make_no_sense_are_refused(make: type[BaseOperator], arguments: dict[str, Any]) -> None:
    """Negative and meaningless intervals are refused when the Dag is parsed."""
    with pytest.raises(ValueError, match="must be a number of seconds"):
        make(task_id="t", operation_name=NAME, service="datafusion", **arguments)


SENSOR = {"operation_name": NAME, "service": "datafusion"}
RUN = {"method": "projects/p/locations/us-central1/connections", "service": "developerconnect"}
MANY = {"parent": "projects/p/locations/us-central1", "service": "datafusion"}


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (OperationSensor, {**SENSOR, "poke_interval": 0}),
        (OperationSensor, {**SENSOR, "poke_interval": timedelta(0)}),
        (CancelOperationOperator, {**SENSOR, "poll_interval": 0}),
        (CancelOperationsOperator, {**MANY, "poll_interval": 0.0}),
        (RunOperationOperator, {**RUN, "poll_interval": 0}),
        (decorated, {"poll_interval": 0}),
    ],
)
def test_an_interval_of_nothing_is_refused(make: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """C3: polls without a pause between them are nobody's wish."""
    with DAG("d", schedule=None), pytest.raises(ValueError, match=r"`po[lk][le]_interval` must be longer than 0 s"):
        make(task_id="t", **arguments)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300, True, -1, timedelta(seconds=-1), "5"], ids=repr)
@pytest.mark.parametrize(
    ("make", "given", "argument"),
    [
        *((OperationSensor, SENSOR, argument) for argument in ("timeout", "max_wait", "poke_interval")),
        *((RunOperationOperator, RUN, argument) for argument in ("timeout", "poll_interval", "start_timeout")),
        *((decorated, {}, argument) for argument in ("timeout", "poll_interval")),
        *((CancelOperationOperator, SENSOR, argument) for argument in ("timeout", "poll_interval")),
        *((CancelOperationsOperator, MANY, argument) for argument in ("timeout", "poll_interval")),
    ],
)
def test_what_is_no_duration_is_refused(
    make: Callable[..., Any], given: dict[str, Any], argument: str, value: Any
) -> None:
    """L3: one rule for every argument that is a duration, which names the argument."""
    words = f"^`{argument}` must be a number of seconds"
    with DAG("d", schedule=None), pytest.raises(InvalidRequestError, match=words):
        make(task_id="t", **given, **{argument: value})


def test_durations_of_a_sensor() -> None:
    """L3: numbers and timedeltas are taken as Airflow takes them, and unset is its default."""
    given = {**SENSOR, "timeout": timedelta(minutes=1), "max_wait": 30}
    with DAG("d", schedule=None):
        sensor, plain = OperationSensor(task_id="t", **given), OperationSensor(task_id="u", **SENSOR)
    assert (sensor.timeout, sensor.max_wait) == (60.0, timedelta(seconds=30))
    assert (plain.timeout, plain.max_wait) == (7 * 86_400, None)


@pytest.mark.parametrize(
    ("make", "given", "arguments"),
    [
        (OperationSensor, SENSOR, ["result_check"]),
        (OperationSensor, SENSOR, ["cancel_on_kill", "cancel_on_failure", "include_response", "deferrable"]),
        (CancelOperationOperator, SENSOR, ["wait_for_completion", "include_response", "deferrable"]),
        (CancelOperationsOperator, MANY, ["wait_for_completion", "dry_run"]),
        (RunOperationOperator, RUN, ["result_check", "wait_for_completion", "deferrable", "cancel_on_kill"]),
        (RunOperationOperator, RUN, ["cancel_on_failure", "durable", "return_operation", "allow_resource"]),
        (decorated, {}, ["result_check", "deferrable", "durable"]),
    ],
)
def test_what_is_no_function_and_no_truth_value_is_refused(
    make: Callable[..., Any], given: dict[str, Any], arguments: list[str]
) -> None:
    """C7: "false" would count as true, and a check that cannot be called would fail only after the wait."""
    for argument in arguments:
        words = f"^`{argument}` must be .*, got 'false'$"
        with DAG("d", schedule=None), pytest.raises(ValueError, match=words):
            make(task_id="t", **given, **{argument: "false"})


@pytest.mark.parametrize(
    ("make", "given", "argument", "wrong", "right"),
    [
        (OperationSensor, SENSOR, "gcp_conn_id", 7, "{{ params.c }}"),
        (RunOperationOperator, RUN, "gcp_conn_id", ["a"], None),
        (RunOperationOperator, RUN, "impersonation_chain", 7, ["a@p.example", "{{ params.b }}"]),
        (CancelOperationOperator, SENSOR, "impersonation_chain", ["a@p.example", None], ("a@p.example",)),
        (CancelOperationsOperator, MANY, "filter", 7, "done:false"),
        (CancelOperationsOperator, MANY, "max_parallel", True, 3),
    ],
)
def test_an_argument_of_the_wrong_type_is_refused(
    make: Callable[..., Any], given: dict[str, Any], argument: str, wrong: Any, right: Any
) -> None:
    """C7: what can be no connection, account, filter or number; what can be, or is known later, passes."""
    with pytest.raises(ValueError, match=f"^`{argument}` must be "):
        make(task_id="t", **given, **{argument: wrong})
    make(task_id="t", **given, **{argument: right})


def test_the_outputs_of_a_decorated_function_are_several_if_it_says_so() -> None:
    """B10: `multiple_outputs` works as in `@task`; an annotation is about the operation, and does not decide it."""
    with DAG("d", schedule=None):

        @task.operation(service="datafusion", multiple_outputs=True)
        def several() -> str:
            return NAME

        @task.operation(service="datafusion")
        def one() -> dict[str, Any]:
            return {"name": NAME}

        outputs = several()
        assert outputs.operator.multiple_outputs is True
        assert outputs["apiEndpoint"].key == "apiEndpoint"
        assert one().operator.multiple_outputs is False


def test_a_body_without_a_form_in_json_is_refused() -> None:
    """B8: also when the Dag is parsed, where it is literal; what is resolved later is not judged."""
    with pytest.raises(ValueError, match=r"`body\.at` .* has no time zone"):
        RunOperationOperator(task_id="t", **RUN, body={"at": datetime(2026, 1, 31)})
    with DAG("d", schedule=None):
        later = XComArg(BaseOperator(task_id="u"))
        RunOperationOperator(task_id="t", **RUN, body={"uris": later, "day": date(2026, 1, 31)})


def test_reschedule_mode_cannot_keep_cancel_on_kill() -> None:
    """Refused with the cure, and allowed where there is nothing to keep."""
    arguments = {"task_id": "t", "operation_name": NAME, "service": "datafusion", "mode": "reschedule"}
    with pytest.raises(ValueError, match="Use deferrable=True"):
        OperationSensor(**arguments)
    assert OperationSensor(**arguments, cancel_on_kill=False).reschedule
    assert OperationSensor(**arguments, deferrable=True).deferrable


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("late", ["{{ ti.xcom_pull(task_ids='a') }}", {"name": "{{ x }}"}], ids=["template", "dict"])
def test_what_is_known_only_at_run_time_is_not_judged_before(make: type[BaseOperator], late: Any) -> None:
    """Templates pass the parser, whatever they will become."""
    made = make(task_id="t", operation_name=late, service="{{ params.s }}", api_version="{{ params.v }}")
    assert made.operation_name == late


@pytest.mark.parametrize("make", BOTH)
def test_a_dag_survives_serialization(make: type[BaseOperator]) -> None:
    """The scheduler's copy has the templated fields as they were written, and the link."""
    with DAG("d", schedule=None) as dag:
        make(task_id="t", operation_name="{{ x }}", service="datafusion")
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("t")
    assert again.operation_name == "{{ x }}"
    assert tuple(again.template_fields) == make.template_fields
    assert [link.name for link in again.operator_extra_links] == ["Google Console"]


@pytest.mark.parametrize("make", BOTH)
def test_templates_are_rendered_in_all_fields(make: type[BaseOperator]) -> None:
    """Every field that the documentation calls templated is, and a dict keeps being one."""
    with DAG("d", schedule=None):
        made = make(
            task_id="t",
            operation_name={"name": "projects/p/locations/l/operations/{{ n }}"},
            service="{{ s }}",
            api_version="{{ v }}",
            gcp_conn_id="{{ c }}",
            impersonation_chain=["{{ i }}"],
        )
    made.render_template_fields(
        {"n": 1, "s": "datafusion", "v": "v1", "c": "x", "i": "a@b"},
        jinja2.Environment(undefined=jinja2.StrictUndefined),
    )
    rendered = [getattr(made, field) for field in made.template_fields]
    assert rendered == [{"name": "projects/p/locations/l/operations/1"}, "datafusion", "v1", "x", ["a@b"]]


@pytest.mark.parametrize("make", BOTH)
def test_an_upstream_task_hands_its_operation_over(make: type[BaseOperator]) -> None:
    """The output of a task is taken as it is, and makes the dependency."""
    with DAG("d", schedule=None) as dag:

        @task
        def start() -> dict[str, str]:
            return {"name": NAME}

        make(task_id="t", operation_name=start(), service="datafusion")
    assert dag.get_task("t").upstream_task_ids == {"start"}


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize(
    "source", [lambda: [NAME, NAME + "2"], lambda: XComArg(BaseOperator(task_id="u"))], ids=["list", "xcom"]
)
def test_tasks_can_be_mapped(make: type[BaseOperator], source: Callable[[], Any]) -> None:
    """`.partial().expand(operation_name=…)` over a list and over the output of a task, and through serialization."""
    with DAG("d", schedule=None) as dag:
        make.partial(task_id="t", service="datafusion", retries=1).expand(operation_name=source())
    assert is_mapped(DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("t"))


@pytest.mark.parametrize(
    ("service", "name", "page"),
    [
        ("aiplatform", NAME, "https://console.cloud.google.com/vertex-ai?project=p"),
        ("earthengine", "projects/p/operations/o", "https://code.earthengine.google.com/tasks"),
        (
            None,
            "//datafusion.googleapis.com/" + NAME,
            "https://console.cloud.google.com/data-fusion/instances?project=p",
        ),
        ("datafusion", "nonsense", ""),
    ],
)
def test_the_link_leads_to_the_console(service: str | None, name: str, page: str) -> None:
    """Each system has a page; what is no operation has none, and raises nothing."""
    from airflow_lro_provider.links.operations import console_url

    assert console_url(name, service) == page


@pytest.mark.parametrize(
    ("universe", "domain", "page"),
    [
        ("", "", "https://console.cloud.google.com/data-fusion/instances?project=p"),
        ("apis.example", "cloud.example", "https://console.cloud.cloud.example/data-fusion/instances?project=p"),
        ("apis.example", "", ""),
        ("apis.example", "x/../y", ""),
        ("no domain", "cloud.example", ""),
    ],
)
def test_the_link_leads_to_the_console_of_the_universe(
    monkeypatch: pytest.MonkeyPatch, universe: str, domain: str, page: str
) -> None:
    """Google's provider 22.3 to 22.8 (apache/airflow#69805, #70001, #70067): another universe has its own console."""
    from airflow_lro_provider.links.operations import console_url

    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", universe)
    monkeypatch.setenv("GOOGLE_CLOUD_HIGH_VALUE_COOKIE_DOMAIN", domain)
    assert console_url(NAME, "datafusion") == page
    for named in (f"https://datafusion.{universe}/v1/{NAME}", f"//datafusion.{universe}/{NAME}"):
        assert console_url(named) == (page if universe else "")
    logs = console_url("projects/p/locations/europe-west1/operations/o", "run")
    assert logs.partition("/logs")[0] == page.partition("/data-fusion")[0]


METHOD = "projects/p/locations/us-central1/connections?connectionId=c"


def test_a_body_is_rendered_deeply() -> None:
    """Templates at any depth of the body, and in the method."""
    made = RunOperationOperator(
        task_id="t",
        service="{{ s }}",
        method="projects/{{ p }}/locations/l/connections",
        body={"a": [{"b": "{{ p }}"}], "n": 3},
        http_method="{{ m }}",
    )
    made.render_template_fields({"s": "developerconnect", "p": "x", "m": "POST"}, jinja2.Environment())
    assert made.body == {"a": [{"b": "x"}], "n": 3}
    assert (made.method, made.http_method) == ("projects/x/locations/l/connections", "POST")


def test_default_args_reach_every_argument() -> None:
    """Also those that the operators share."""
    defaults = {"gcp_conn_id": "mine", "poll_interval": 7, "service": "developerconnect", "durable": False}
    with DAG("d", schedule=None, default_args=defaults):
        run = RunOperationOperator(task_id="r", method=METHOD)

        @task.operation
        def start() -> str:
            return NAME

        decorated = start().operator
    for made in (run, decorated):
        assert (made.gcp_conn_id, made.poll_interval, made.durable) == ("mine", 7.0, False)


def test_starters_can_be_mapped_and_serialized() -> None:
    """`.partial().expand()` of the operator and of a decorated function."""
    with DAG("d", schedule=None) as dag:
        RunOperationOperator.partial(task_id="r", service="developerconnect", poll_interval=3, deferrable=True).expand(
            method=[METHOD, METHOD + "2"]
        )

        @task.operation(service="datafusion", deferrable=True)
        def start(number: int) -> str:
            return NAME

        start.expand(number=[1, 2])
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert [is_mapped(again.get_task(task_id)) for task_id in ("r", "start")] == [True, True]


def test_a_decorated_function_is_checked_when_the_dag_is_parsed() -> None:
    """A service that does not exist is said at once, with a did-you-mean."""
    with DAG("d", schedule=None), pytest.raises(ValueError, match="Did you mean 'earthengine'"):
        task.operation(lambda: NAME, task_id="t", service="earth-engine")()


@since_3
def test_the_link_of_a_task_that_started_its_operation() -> None:
    """It knows the operation once it is started, and has no link before."""
    from airflow_lro_provider.lro.resources.names import read_reference

    made = RunOperationOperator(task_id="r", service="developerconnect", method=METHOD)
    [link] = made.operator_extra_links
    assert link.get_link(made, ti_key=None) == ""
    made.attempt = SimpleNamespace(about=read_reference(NAME, "developerconnect"))
    assert "developer-connect" in link.get_link(made, ti_key=None)


def test_a_sensor_names_only_the_outcomes_that_it_can_have() -> None:
    """A cancel has more of them."""
    with pytest.raises(ValueError, match=r"there are: SUCCEEDED, FAILED, CANCELLED, NOT_FOUND$"):
        OperationSensor(task_id="t", operation_name=NAME, service="datafusion", fail_on={"CANCELED"})


def test_the_interval_of_a_sensor_has_the_name_that_it_has_in_airflow() -> None:
    """The operators' is `poll_interval`: whoever mixes them up is told which one is meant."""
    with pytest.raises(TypeError, match="`poke_interval`"):
        OperationSensor(task_id="t", operation_name=NAME, service="datafusion", poll_interval=5)
