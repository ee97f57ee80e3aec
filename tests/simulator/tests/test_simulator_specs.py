"""Every answer against the official OpenAPI schemas, where those are at hand.

The specs are not part of this repository; they are looked for beside it. Where they are absent
there is nothing to compare with, and only the tests of the comparison itself run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from openapi_schema_validator import OAS30Validator, oas30_format_checker
from sendgrid_simulator import Simulator, SimulatorOptions
from sendgrid_simulator.server import AREAS
from sendgrid_simulator.webhooks import Webhook

SPECS = Path(__file__).resolve().parents[3].parent / "shared" / "reference" / "openapi"


@dataclass(frozen=True)
class Case:
    """A call, and where its schema stands: file, path template and status."""

    spec: str
    template: str
    path: str
    method: str = "get"
    status: int = 200
    body: Any = None
    generation: str = "marketing"

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status} {self.body or ''}"


def calls(text: str) -> list[Case]:
    """The cases that a file like ``spec_calls.txt`` lists; it says how."""
    cases: list[Case] = []
    spec = base = generation = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            spec, base, generation = [*line[1:].split(), "marketing"][:3]
            spec = spec.removesuffix("]")
            continue
        template, path, how = [*(part.strip() for part in line.split("->", 2)), "", ""][:3]
        template = "" if template == "." else template
        path = template if path in ("", ".") else path
        parts = how.split(None, 2)
        method, status, body = parts + ["GET", "200", ""][len(parts) :]
        numbers = range(25) if "*" in path else range(1)
        cases += [
            Case(
                spec,
                base + template,
                base + path.replace("*", str(number)),
                method.lower(),
                int(status),
                json.loads(body) if body else None,
                generation,
            )
            for number in numbers
        ]
    return cases


MARKETING, EVENT = "/v3/marketing", "/v3/user/webhooks/event/settings"
CASES = calls((Path(__file__).parent / "spec_calls.txt").read_text())
PRESENT = [case for case in CASES if (SPECS / f"tsg_{case.spec}_v3.json").exists()]


# -- the specs' own faults -----------------------------------------------------------------------


def results_of(schema: Any) -> Any:
    """C1: the list of segments 2.0 is `{"results": [one object each]}`, not one object."""
    row = nullable(schema, "parent_list_ids")
    return {
        "type": "object",
        "required": ["results"],
        "properties": {"results": {"type": "array", "items": row}},
    }


def nullable(schema: Any, *names: str) -> Any:
    """Members that are null in recorded answers, although the spec does not say so."""
    for name in names:
        schema["properties"][name]["nullable"] = True
    return schema


def rows_nullable(key: str, *names: str) -> Callable[[Any], Any]:
    def mend(schema: Any) -> Any:
        nullable(schema["properties"][key]["items"], *names)
        return schema

    return mend


def sample_as_contacts(schema: Any) -> Any:
    """C9 and recorded samples: postal_code is text, and unset text is empty."""
    properties = schema["properties"]
    row = properties["contacts_sample"]["items"]["properties"]
    for name in ("postal_code", "first_name", "last_name", "city", "alternate_emails"):
        row[name] = {}
    row["custom_fields"] = {"type": "object"}
    return nullable(
        schema, "parent_list_ids" if "parent_list_ids" in properties else "parent_list_id"
    )


def sample_as_array(schema: Any) -> Any:
    """The sample is specified as one contact; its description says up to 50."""
    sample = schema["properties"]["contact_sample"]
    schema["properties"]["contact_sample"] = {"type": "array", "items": sample}
    return schema


def flat_recipients(schema: Any) -> Any:
    """C14: recipients are nested in recipients in the spec, flat in its examples and in reality."""
    inner = schema["properties"]["recipients"]["items"]["properties"]["recipients"]
    schema["properties"]["recipients"] = inner
    return typed_values(schema)


def typed_values(schema: Any) -> Any:
    """Values of custom fields have the field's type or are null; unset members are null."""
    row = schema["properties"]["recipients"]["items"]
    row["properties"]["custom_fields"]["items"]["properties"]["value"] = {}
    return nullable(row, "first_name", "last_clicked", "last_emailed", "last_opened") and schema


def null_members(schema: Any) -> Any:
    """Members of drafts are null in the list of campaigns, so they are in one campaign too."""
    return nullable(schema, *set(schema["properties"]) - {"id", "status"})


def any_id(schema: Any) -> Any:
    """Ids of dynamic templates are `d-<hex>`, not UUIDs."""
    row = schema["properties"].get("result", {}).get("items", schema)
    row["properties"]["id"] = {"type": "string"}
    return schema


def null_field(schema: Any) -> Any:
    """`field` is null in the errors that were observed, text in most specs."""
    error = schema.get("properties", {}).get("errors", {}).get("items", {}).get("properties", {})
    if "field" in error:
        error["field"]["nullable"] = True
    return schema


def variation_all(schema: Any) -> Any:
    """`ab_variation` is "all" when rows are not grouped by it, which is no UUID."""
    schema["properties"]["results"]["items"]["properties"]["ab_variation"] = {"type": "string"}
    return schema


def sparse_activity(schema: Any) -> Any:
    """The spec demands a bounce type of every event, a group of every mail, slashes in links."""
    schema["required"].remove("asm_group_id")
    events = schema["properties"]["events"]["items"]
    events["required"] = ["event_name", "processed"]
    del events["properties"]["url"]["pattern"]
    return schema


FAULTS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("get", f"{MARKETING}/segments/2.0"): results_of,
    ("get", f"{MARKETING}/segments/2.0/{{segment_id}}"): sample_as_contacts,
    ("get", f"{MARKETING}/segments"): rows_nullable("results", "parent_list_id"),
    ("get", f"{MARKETING}/segments/{{segment_id}}"): sample_as_contacts,
    ("get", f"{MARKETING}/lists/{{id}}"): sample_as_array,
    ("get", "/v3/contactdb/lists/{list_id}/recipients"): flat_recipients,
    ("get", "/v3/contactdb/segments/{segment_id}/recipients"): flat_recipients,
    ("get", "/v3/contactdb/recipients/search"): flat_recipients,
    ("post", "/v3/contactdb/recipients/search"): typed_values,
    ("get", "/v3/campaigns/{campaign_id}"): null_members,
    ("get", "/v3/messages/{msg_id}"): sparse_activity,
    ("get", "/v3/templates"): any_id,
    ("get", "/v3/templates/{template_id}"): any_id,
    ("get", f"{MARKETING}/stats/singlesends"): variation_all,
    ("get", f"{MARKETING}/stats/singlesends/{{id}}"): variation_all,
    ("get", f"{MARKETING}/stats/singlesends/{{id}}/links"): variation_all,
}


# -- the comparison ------------------------------------------------------------------------------


def resolved(node: Any, root: Any) -> Any:
    """The node with all references replaced by what they point to."""
    if isinstance(node, list):
        return [resolved(item, root) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = root
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return resolved(target, root)
    # Examples are no schema, and a discriminator only repeats what oneOf says.
    skipped = ("example", "examples", "discriminator")
    return {key: resolved(value, root) for key, value in node.items() if key not in skipped}


def schema_of(root: Any, case: Case) -> Any:
    """The schema of the case's answer, mended where the spec is known to be wrong."""
    answers = root["paths"][case.template][case.method]["responses"]
    answer = resolved(answers[str(case.status)], root)
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    if case.status >= 400:
        return null_field(schema)
    mend = FAULTS.get((case.method, case.template))
    return mend(schema) if mend else schema


def faults_of(data: Any, schema: Any) -> list[str]:
    """What is wrong with the data, in words."""
    validator = OAS30Validator(schema, format_checker=oas30_format_checker)
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(data)]


@pytest.fixture(scope="module")
def simulators():
    """An account of each generation, with something of everything."""
    options: dict[str, Any] = {
        "contacts": 60,
        "segments": 3,
        "segments_v1": 2,
        "messages": 60,
        "email_activity": True,
        "legacy_exports": True,
        "rate_limits": {"/v3/": (10_000, 60.0)},
    }
    with (
        Simulator(SimulatorOptions(**options)) as marketing,
        Simulator(SimulatorOptions(**options, generation="legacy")) as legacy,
    ):
        marketing.account.webhooks.append(Webhook("oldest", "https://a.example/"))
        yield {"marketing": (marketing, names_of(marketing)), "legacy": (legacy, names_of(legacy))}


def names_of(sim: Simulator) -> dict[str, str]:
    """What the placeholders in the cases stand for."""

    def post(path: str, body: Any) -> str:
        answer = requests.post(sim.url + path, json=body, headers=sim.auth, timeout=5)
        return answer.json()["id"]

    account = sim.account
    exports = f"{MARKETING}/contacts/exports"
    names = {
        "$list": account.lists[0].id,
        "$segment1": next(item.id for item in account.segments if item.version == "1"),
        "$segment2": account.segments[0].id,
        "$send": account.campaigns[0].id,
        "$draft": account.campaigns[1].id,
        "$contact": account.contacts.id_of(3),
        "$template": account.templates[0].id,
        "$version": account.templates[0].versions[0]["id"],
        "$recipient": "cGVyc29uLjBAZXhhbXBsZS5jb20=",
    }
    for index, message in enumerate(account.messages):
        names[f"$message{index}"] = message.message_id
    if account.generation == "marketing":
        names["$webhook"] = account.webhooks[0].id
        rows = [{"email": "someone@example.com"}]
        put = f"{sim.url}{MARKETING}/contacts"
        job = requests.put(put, json={"contacts": rows}, headers=sim.auth, timeout=5)
        names["$job"] = job.json()["job_id"]
        stats = requests.get(f"{sim.url}{MARKETING}/stats/automations", headers=sim.auth, timeout=5)
        names["$automation"] = stats.json()["results"][0]["id"]
        for name, failures, polls in (("$ready", 0, 0), ("$failed", 1, 0), ("$pending", 0, 5)):
            account.options.export_failures, account.options.export_polls = failures, polls
            names[name] = post(exports, {"list_ids": [account.lists[0].id]})
    else:
        account.options.export_polls = 0
        names["$ready"] = post("/v3/contactdb/exports", {})
    return names


if PRESENT:  # an empty list of cases would be reported as a skipped test

    @pytest.mark.parametrize("case", PRESENT, ids=str)
    def test_answers_conform_to_the_official_schema(simulators, case):
        sim, names = simulators[case.generation]
        path, body = case.path, None if case.body is None else json.dumps(case.body)
        for name, value in sorted(names.items(), reverse=True):
            path, body = path.replace(name, value), body and body.replace(name, value)
        answer = requests.request(
            case.method, sim.url + path, data=body, headers=sim.auth, timeout=10
        )
        assert answer.status_code == case.status, answer.text
        root = json.loads((SPECS / f"tsg_{case.spec}_v3.json").read_text())
        assert faults_of(answer.json(), schema_of(root, case)) == []


def test_the_comparison_sees_what_is_wrong():
    schema = {
        "type": "object",
        "required": ["id"],
        "properties": {"id": {"type": "string", "format": "uuid"}},
    }
    assert faults_of({"id": "2f6dec81-43b9-4c67-a890-3a38cb63b54a"}, schema) == []
    assert faults_of({}, schema)
    assert faults_of({"id": 3}, schema)
    root = {"a": {"$ref": "#/b"}, "b": {"type": "integer"}}
    assert resolved(root["a"], root) == {"type": "integer"}


def test_every_case_is_a_call_of_its_own():
    assert len({f"{case.generation} {case}" for case in CASES}) == len(CASES)


#: Endpoints that are not compared, and why not.
UNCOMPARED = {
    "GET /downloads/{}/{}": "a file on another host",
    "GET /v3/subusers": "its spec is not among those at hand",
    "GET /v3/marketing/campaigns": "in no spec",
    "GET /v3/marketing/stats/singlesends/export": "CSV",
    "POST /v3/user/webhooks/event/test": "204, no body",
    "DELETE /v3/user/webhooks/event/settings/{}": "204, no body",
    "GET /v3/user/webhooks/event/settings": "the spec has the form with an id only",
    "PATCH /v3/user/webhooks/event/settings": "the spec has the form with an id only",
    "GET /v3/user/webhooks/event/settings/signed": "the spec has the form with an id only",
    "PATCH /v3/user/webhooks/event/settings/signed": "the spec has the form with an id only",
    "DELETE /v3/marketing/contacts": "the spec has an object for the job id, others have text",
    "DELETE /v3/contactdb/recipients": "204, no body",
}


def test_every_endpoint_is_compared_or_says_why_not():
    served = {
        f"{endpoint.method} {re.sub(r'{.*?}', '{}', endpoint.path)}"
        for area in AREAS
        for endpoint in area.endpoints
    }
    compared = {f"{case.method.upper()} {re.sub(r'{.*?}', '{}', case.template)}" for case in CASES}
    assert served - compared == set(UNCOMPARED)
