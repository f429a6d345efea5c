"""The commands of docs/deployments.md and of compose.yaml, as Prefect's words."""

POOL = ("work-pool", "create", "critical-neurons", "--type", "process")
DEPLOY = ("deploy", "--all")
WORKER = ("worker", "start", "--pool", "critical-neurons")
STATUS = ("server", "status", "--wait", "--timeout", "120")
