"""The workflow: settings, stages, tracking in MLflow and execution by Prefect.

The only package that knows Prefect and MLflow; it stands on both libraries.
"""
