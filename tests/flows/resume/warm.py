"""Late imports of a flow's process, done once in the process that the tests' commands are forked from."""

from importlib import import_module

from mlflow.utils import requirements_utils

# Asked for by MLflow, Prefect and torch when they are first used; all but the last come with them.
LATE = (
    "alembic.command",
    "git",
    "graphviz",
    "IPython",
    "matplotlib.backends.backend_agg",
    "mlflow.models",
    "mlflow.pyfunc.loaders",
    "mlflow.pytorch",
    "networkx",
    "prefect.engine",
    "scipy.stats",
    "sklearn.datasets",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed",
    "dask.array",
    "matplotlib.figure",
    "prefect.flow_engine",
    "tabulate",
    "torch._functorch.aot_autograd",
    "torch._inductor.ir",
    "torch.export._trace",
    "torch.export.pt2_archive",
    "mlflow.pyfunc",
    "linopy",
    "scipy.optimize",
    "flows.launch",
    "tests.flows.resume.killed",
)

for name in LATE:
    import_module(name)
# Which package each module is from: MLflow asks this of all that is installed before it saves its first model.
requirements_utils._init_modules_to_packages_map()
