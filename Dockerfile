# CPU:   docker build -t ecr-bench .                                  docker run -v $PWD/runs:/runs ecr-bench run quick
# CUDA:  docker build -t ecr-bench:cuda --build-arg TORCH=cu128 .     docker run --gpus all -v $PWD/runs:/runs ecr-bench:cuda run quick
FROM python:3.12-slim

ARG TORCH=cpu
RUN useradd --create-home bench && mkdir /runs && chown bench /runs
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY ecr_bench ecr_bench
COPY tasks tasks
COPY baselines baselines
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/${TORCH} .

USER bench
WORKDIR /
VOLUME /runs
ENTRYPOINT ["ecr-bench"]
CMD ["run", "quick"]
