"""The flows: settings, stages and tracking; the only room that knows Prefect and MLflow."""
