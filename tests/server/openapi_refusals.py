"""Requests that a real server refuses before it does anything, and the codes with which it does."""

from __future__ import annotations

REFUSED = [
    ("POST", "/jobs/plan", {"config": {}}, "invalid_request"),
    ("POST", "/jobs/plan", {"config": {}, "dataloader_config": []}, "invalid_config"),
    ("POST", "/jobs/plan?provider=nobody", {"config": {}, "dataloader_config": []}, "provider_not_found"),
    ("POST", "/jobs/submit", [], "invalid_request"),
    ("POST", "/jobs/submit?provider=nobody", {"config": {}, "dataloader_config": []}, "provider_not_found"),
    ("POST", "/jobs/sync", {"who": 1}, "invalid_request"),
    ("POST", "/jobs/sync", {"provider": "nobody"}, "provider_not_found"),
    ("GET", "/jobs?limit=0", None, "invalid_request"),
    ("GET", "/events?after=x", None, "invalid_request"),
    ("PUT", "/destination", {"kind": "moon"}, "invalid_request"),
    ("PUT", "/data-consent/setting", {"consent": "perhaps"}, "invalid_request"),
    ("POST", "/data-consent/preview", {}, "invalid_request"),
    ("POST", "/data-consent/preview?provider=nobody", [], "provider_not_found"),
    ("PUT", "/providers/elsewhere", {"no": 1}, "invalid_request"),
    ("PUT", "/providers/elsewhere/config", {"no": 1}, "invalid_request"),
    ("PUT", "/providers/nobody/config", {}, "provider_not_found"),
    ("GET", "/providers/local/advanced", None, "conflict"),
    ("PATCH", "/providers/local/advanced", {"ssl_verify": True}, "conflict"),
    ("GET", "/providers/nobody/advanced", None, "provider_not_found"),
    ("PATCH", "/providers/nobody/advanced", {}, "provider_not_found"),
    ("PATCH", "/providers/replicate/advanced", {"http_timeout": 0}, "invalid_request"),
    ("PATCH", "/providers/replicate/advanced", [], "invalid_request"),
    ("PUT", "/providers/elsewhere/token", {}, "invalid_request"),
    ("PUT", "/providers/local/token", {"api_token": "x"}, "conflict"),
    ("DELETE", "/providers/local/token", None, "conflict"),
    ("POST", "/local-upload/test", {"no": 1}, "invalid_request"),
    ("POST", "/providers/elsewhere/test-webhook", {"wait_s": 0}, "invalid_request"),
    ("POST", "/providers/elsewhere/test-webhook-external", {"wait_s": 0}, "invalid_request"),
    ("POST", "/providers/nobody/test-webhook-external", None, "provider_not_found"),
    ("POST", "/providers/local/test-webhook-external", None, "conflict"),
    ("PATCH", "/providers/replicate/advanced", None, "invalid_request"),
    *(("GET", f"/providers/nobody{below}", None, "provider_not_found") for below in ("", "/config", "/validate", "/versions", "/billing", "/status")),
    ("PUT", "/providers/nobody", {}, "provider_not_found"),
    ("PUT", "/providers/nobody/token", {"api_token": "x"}, "provider_not_found"),
    ("DELETE", "/providers/nobody/token", None, "provider_not_found"),
    ("POST", "/providers/nobody/test-webhook", {"mode": "direct"}, "provider_not_found"),
    *(
        ("GET", f"/jobs/none{below}", None, "job_not_found")
        for below in ("", "/logs", "/logs/stream", "/inline-progress", "/events", "/metrics", "/outputs", "/outputs.zip", "/outputs/x")
    ),
    *(("GET", f"/jobs/none{query}", None, "invalid_request") for query in ("/logs?limit=0", "/metrics?points=1", "/events?limit=0")),
    ("DELETE", "/jobs/none", None, "job_not_found"),
    ("POST", "/jobs/none/cancel", None, "job_not_found"),
    ("POST", "/jobs/none/resolve", {"action": "resend"}, "job_not_found"),
    ("POST", "/jobs/none/resolve", {"action": "hope"}, "invalid_request"),
    ("GET", "/jobs/none/push", None, "job_not_found"),
    ("POST", "/jobs/none/push", {"destination": {"kind": "hub", "repo_id": "a/b"}}, "job_not_found"),
    ("POST", "/jobs/none/push", {"destination": {"kind": "home"}}, "invalid_request"),
    ("POST", "/jobs/none/push/retry", None, "job_not_found"),
    ("DELETE", "/jobs/none/push", None, "job_not_found"),
    *(("GET", f"/jobs/none/{below}", None, "job_not_found") for below in ("snapshot", "draft", "cost-limit")),
    ("POST", "/jobs/none/rerun", {}, "job_not_found"),
    ("POST", "/jobs/none/rerun", {"idempotency_key": ""}, "invalid_request"),
    ("GET", "/jobs/diff?a=none", None, "invalid_request"),
    ("GET", "/jobs/diff?a=none&b=none", None, "job_not_found"),
    ("GET", "/snapshots?limit=0", None, "invalid_request"),
    ("PUT", "/snapshots/setting", {}, "invalid_request"),
    *(("GET", f"/{path}?days=0", None, "invalid_request") for path in ("spend", "metrics")),
    ("PUT", "/cost-limit", {"total": {"amount_usd": -1}}, "invalid_request"),
    ("PUT", "/cost-limit", {"providers": {"nobody": {}}}, "provider_not_found"),
    ("GET", "/cost-limit/status?provider=nobody", None, "provider_not_found"),
    ("POST", "/cost-estimate", [1], "invalid_request"),
    ("POST", "/cost-estimate?provider=nobody", {"config": {}, "dataloader_config": []}, "provider_not_found"),
    ("POST", "/cost-estimate?provider=nobody", [], "invalid_config"),
    ("GET", "/hardware-options?provider=nobody", None, "provider_not_found"),
]  # fmt: skip
"""Below `api/cloud`: verb, path, body, and the code of the refusal."""

REFUSED_OF_WEBHOOKS = [
    ("POST", "/test", {}, "invalid_request"),
    ("POST", "/test", {"provider": "elsewhere", "webhook_url": "http://127.0.0.1:9"}, "invalid_request"),
    ("POST", "/test", {"provider": "nobody"}, "provider_not_found"),
    ("POST", "/test", {"provider": "local"}, "conflict"),
    ("GET", "/upload/progress/none", None, "job_not_found"),
]
"""Below `api/webhooks`, of the routes for people."""

REFUSED_OF_QUEUE = [
    ("GET", "/?limit=0", None, "invalid_request"),
    ("GET", "/?status=moon", None, "invalid_request"),
    ("GET", "/position/none", None, "job_not_found"),
    ("POST", "/none/cancel", None, "job_not_found"),
    ("POST", "/none/priority", {"priority": 51}, "invalid_request"),
    ("POST", "/none/priority", {"priority": "lead"}, "job_not_found"),
    ("POST", "/concurrency", {"max_concurrent": 0}, "invalid_request"),
    ("POST", "/concurrency", {"enable_fair_share": True}, "invalid_request"),
    ("POST", "/cleanup?days=0", None, "invalid_request"),
]
"""The same below `api/queue`."""
