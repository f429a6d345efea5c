# The project in its folder, with the exact versions of requirements.txt: an MLflow server, a Prefect server or a worker.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /project
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
RUN useradd --create-home worker && mkdir -p /data/artifacts /data/prefect /data/cache && chown -R worker /data /project
USER worker
ENV CRITICAL_NEURONS_CACHE=/data/cache OMP_NUM_THREADS=1 PREFECT_HOME=/data/prefect PYTHONUNBUFFERED=1
