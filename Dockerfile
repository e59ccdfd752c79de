# ladseg on a processor:   docker build -t ladseg . && docker run --rm -v "$PWD:/work" ladseg demo
# For an NVIDIA GPU:       docker build -t ladseg --build-arg INDEX=https://pypi.org/simple . && docker run --gpus all ...
FROM python:3.11-slim-bookworm
ARG INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/ladseg
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$INDEX" '.[onnx,video]'
# What it reads and writes: mount a folder here.
WORKDIR /work
ENTRYPOINT ["ladseg"]
CMD ["--help"]
